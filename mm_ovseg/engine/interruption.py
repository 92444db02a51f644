"""Stopping a training that is asked to stop: with a checkpoint, and in all processes at the same iteration."""

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
# Seconds in which a further signal is the same wish: a terminal or a scheduler signals every process of a group, and
# torchrun or our launcher passes the signal on to processes that have it already.
SAME_WISH = 1.0


def exit_status(number: int) -> int:
    """What a process exits with after a signal, as a shell counts: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + number


class InterruptionHook(HookBase):
    """After SIGINT or SIGTERM ends the iteration, writes a checkpoint and exits with :func:`exit_status`.

    A second signal ends the process at once. All processes of a run stop together, whichever of them got the signal.
    The hook belongs after all others, so that what is due after the iteration, such as an evaluation, is done.

    Args:
        checkpointer: writes ``model_<iteration>.pth``, on the main process.
    """

    def __init__(self, checkpointer: StrictCheckpointer) -> None:
        self._checkpointer = checkpointer
        self._process = os.getpid()
        self._received = 0  # number of the signal
        self._received_at = 0.0
        self._handlers_before: dict = {}

    def before_train(self) -> None:
        """Take over the signals; out of the main thread Python cannot, and they do what they did."""
        if threading.current_thread() is threading.main_thread():
            self._handlers_before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def after_step(self) -> None:
        """Stop if any process was asked to.

        Raises:
            SystemExit: with :func:`exit_status`.
        """
        if self.trainer.iter + 1 == self.trainer.max_iter:
            return  # the last checkpoint is written; the rest is for release()
        received = max(comm.all_gather(self._received))
        if not received:
            return
        self._received = 0
        self._checkpointer.save(f"model_{self.trainer.iter:07d}")
        comm.synchronize()  # the first process to exit makes torchrun end the others
        logger.warning(
            "%s: stopped after iteration %d; the same command with --resume goes on from there.",
            *(signal.Signals(received).name, self.trainer.iter),
        )
        sys.exit(exit_status(received))

    def release(self) -> None:
        """Give the signals back, once no more steps will be taken.

        Raises:
            SystemExit: training is complete, and a signal came during its last iteration; the evaluation is left to
                ``--resume``.
        """
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        self._handlers_before = {}
        if self._received and self.trainer.iter >= self.trainer.max_iter:
            logger.warning("Stopped when training was complete; the same command with --resume evaluates.")
            sys.exit(exit_status(self._received))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a process that reads data has inherited this; the one that trains ends it
        if not self._received:
            self._received, self._received_at = number, time.monotonic()
            note = f"{signal.Signals(number).name}: a checkpoint follows this iteration; a second one stops at once.\n"
            os.write(2, note.encode())  # print and logging may be what was interrupted
        elif time.monotonic() - self._received_at > SAME_WISH:
            signal.signal(number, signal.SIG_DFL)
            os.kill(self._process, number)
