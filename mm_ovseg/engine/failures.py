"""Ending every process of a run when one of them fails, with the reason that it gave.

A process that waits in a collective operation is not told there why another one has failed: gloo raises an error of its
own, NCCL may wait for ever. So a failing process announces its reason in the store of the run, where a thread of every
other process looks for it.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, NoReturn

from torch.distributed import Store

from mm_ovseg.engine.interruption import SIGNALS
from mm_ovseg.errors import MMOVSegError, exit_message

__all__ = ["Failure", "FailureWatch", "Place", "announce", "killed_message"]

POLL_SECONDS = 0.1
# All processes end together, this long after the announcement: were they to end one by one, then gloo would tell the
# remaining ones, and torchrun would send them signals.
GRACE_SECONDS = 0.5
# An error that is not ours may be the consequence of a killed process, which others announce in this time.
PATIENCE_SECONDS = 5.0
# Without its store, a run that is about to finish may do so.
LOST_STORE_SECONDS = 5.0


@dataclass(frozen=True)
class Place:
    """The place of a process in a run; all numbers but the sizes count from 0.

    Attributes:
        rank: number among all processes.
        size: number of processes.
        local_rank: number on this machine.
        local_size: number of processes on this machine.
        machine: number of this machine.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    machine: int

    def __str__(self) -> str:
        return f"Rank {self.rank} of {self.size} on {socket.gethostname()}"


class Failure(NamedTuple):
    """The reason why a run ends.

    Attributes:
        machine: number of the machine where it happened.
        text: what to print.
        status: exit status of all processes.
        time: seconds since the epoch, by the clock of that machine.
    """

    machine: int
    text: str
    status: int
    time: float


def announce(store: Store, machine: int, text: str, status: int) -> tuple[Failure, bool]:
    """Announce a failure to all processes; returns the first of the run, and whether it is this one."""
    own = Failure(machine, text, status, time.time())
    try:
        first = Failure(*json.loads(store.compare_set("failure", "", json.dumps(own))))
    except RuntimeError:  # the store is lost
        first = own
    return first, first == own


def _find_announced(store: Store) -> Failure | None:
    return Failure(*json.loads(store.get("failure"))) if store.check(["failure"]) else None


class FailureWatch:
    """Ends this process, by a thread, once any process of the run has failed.

    Args:
        store: a connection of its own to the store of the run, since another one may be waiting.
        place: of this process.
        peers: ranks on this machine, which are looked after too, as nobody else will say that one was killed.
    """

    def __init__(self, store: Store, place: Place, peers: Sequence[int] = ()) -> None:
        self._store = store
        self._place = place
        self._peers = [rank for rank in peers if rank != place.rank]
        self._processes: dict[int, int] = {}  # of those ranks
        self._leaving = threading.Event()
        store.set(f"process/{place.rank}", str(os.getpid()))
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Stop watching, as this process has done its work."""
        with suppress(RuntimeError):
            self._store.set(f"left/{self._place.rank}", "")
        self._leaving.set()
        self._thread.join()

    def fail(self, error: BaseException) -> NoReturn:
        """End all processes because of an error in this one, unless it is the consequence of another failure."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        text, status = exit_message(error)
        if not isinstance(error, MMOVSegError | KeyboardInterrupt):
            time.sleep(PATIENCE_SECONDS)
        if not isinstance(error, KeyboardInterrupt):
            text += f"\n{self._place} failed; all ranks were stopped."
        sys.stdout.flush()
        self._announce(text, status)
        while True:  # until the thread ends the process; leaving the group would end the others with errors of its own
            time.sleep(GRACE_SECONDS)

    def _announce(self, text: str, status: int) -> Failure:
        failure, is_first = announce(self._store, self._place.machine, text, status)
        if is_first:
            _print(text)
        return failure

    def _watch(self) -> None:
        try:
            failure = None
            while failure is None:
                if self._leaving.wait(POLL_SECONDS):
                    return
                failure = _find_announced(self._store) or self._find_killed()
        except Exception:  # nothing else would end this process
            if self._leaving.wait(LOST_STORE_SECONDS):
                return
            _print(f"error: {self._place} has lost the process that started the run; it ends.")
            _end(1)
        if failure.machine != self._place.machine and self._place.local_rank == 0:
            _print(failure.text)
        time.sleep(min(max(failure.time + GRACE_SECONDS - time.time(), 0), GRACE_SECONDS))
        _end(failure.status)

    def _find_killed(self) -> Failure | None:
        for rank in self._peers:
            if rank not in self._processes and self._store.check([f"process/{rank}"]):
                self._processes[rank] = int(self._store.get(f"process/{rank}"))
            is_gone = rank in self._processes and not _is_running(self._processes[rank])
            if is_gone and not self._store.check([f"left/{rank}"]):
                return self._announce(killed_message(replace(self._place, rank=rank)), 1)
        return None


def killed_message(place: Place, number: int | None = None) -> str:
    """What to print of a process that was killed, by a signal if it is known."""
    by = f" by {signal.Signals(number).name}" if number else ""
    why = ", perhaps for lack of memory" if number in (None, signal.SIGKILL) else ""
    return (
        f"error: {place} was killed{by}{why}; all ranks were stopped. The same command with --resume continues a "
        "training from its last checkpoint."
    )


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process has its number now
        return False
    return True


def _print(text: str) -> None:
    with suppress(OSError, ValueError):  # of a closed pipe or stream
        print(text, file=sys.stderr, flush=True)


def _end(status: int) -> NoReturn:
    """End this process, whatever its main thread waits for, and those that it has started, which read data."""
    try:
        for process in multiprocessing.active_children():
            process.kill()
    finally:
        os._exit(status)
