"""Stopping training on a signal: with a checkpoint, and at the same iteration in all processes."""

import logging
import os
import signal
import sys
import threading
import time
from types import FrameType

from detectron2.engine import HookBase
from detectron2.utils import comm

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer

__all__ = ["SIGNALS", "InterruptionHook", "exit_status"]

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds during which another signal counts as a copy of the first: terminals and schedulers signal all processes of a
# group, and torchrun and our launcher forward the signal to processes that have already received it.
DUPLICATE_SECONDS = 1.0


def exit_status(number: int) -> int:
    """The exit status of a process after a signal, as in a shell: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + number


class InterruptionHook(HookBase):
    """On SIGINT or SIGTERM, finishes the iteration, writes a checkpoint and exits with :func:`exit_status`.

    A second signal ends the process at once. All processes of a run stop together, whichever of them got the signal.
    This must be the last hook, so that anything due after the iteration, such as an evaluation, is done first.

    Args:
        checkpointer: writes ``model_<iteration>.pth``, on the main process.
    """

    def __init__(self, checkpointer: StrictCheckpointer) -> None:
        self._checkpointer = checkpointer
        self._process = os.getpid()
        self._received = 0  # signal number
        self._received_at = 0.0
        self._handlers_before: dict = {}

    def before_train(self) -> None:
        """Install the signal handlers, which Python allows only in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._handlers_before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def after_step(self) -> None:
        """Stop if any process received a signal.

        Raises:
            SystemExit: with :func:`exit_status`.
        """
        if self.trainer.iter + 1 == self.trainer.max_iter:
            comm.synchronize()  # now the main process has written the final checkpoint; release() does the rest
            return
        received = max(comm.all_gather(self._received))
        if not received:
            return
        self._received = 0
        self._checkpointer.save(f"model_{self.trainer.iter:07d}")
        comm.synchronize()  # the first process to exit makes torchrun end the others
        logger.warning(
            "%s: stopped after iteration %d; the same command with --resume continues from there.",
            *(signal.Signals(received).name, self.trainer.iter),
        )
        sys.exit(exit_status(received))

    def release(self) -> None:
        """Restore the signal handlers after the last step.

        Raises:
            SystemExit: a process received a signal during the last iteration; ``--resume`` runs the evaluation.
        """
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        self._handlers_before = {}
        if self.trainer.iter < self.trainer.max_iter:
            return  # after an error, which other processes may not have
        received = max(comm.all_gather(self._received))
        if received:
            logger.warning("Stopped after training was complete; the same command with --resume evaluates.")
            sys.exit(exit_status(received))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # inherited by a data loader worker, which the training process stops
        if not self._received:
            self._received, self._received_at = number, time.monotonic()
            note = "saving a checkpoint after this iteration; a second signal stops at once"
            # Not with print or logging, whose calls may have been interrupted.
            os.write(2, f"{signal.Signals(number).name}: {note}.\n".encode())
        elif time.monotonic() - self._received_at > DUPLICATE_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(self._process, number)
