"""Targets run in a process of their own: what kills it, or never ends, is found too."""

import faulthandler
import logging
import multiprocessing
import os
import resource
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from mm_ovseg.errors import MMOVSegError
from tests.fuzz.targets import TARGETS
from tests.patience import PATIENCE

__all__ = ["FuzzProcess"]

SECONDS = 60  # after which an input hangs
MEMORY = 8 << 30  # bytes
MOST_PIXELS = 1 << 20  # small, so that what passes is read quickly


class FuzzProcess:
    """Runs inputs in a process that is started anew after each that kills it; a context manager.

    Args:
        folder: for the files that the inputs become; holds good.tif, a raster to go with them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> "FuzzProcess":
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def run(self, target: str, content: bytes) -> tuple[str, str]:
        """How a target ends on an input.

        Returns:
            ("result", ""), ("refused", name of the error class), or, of a fault, ("fault", where and what).
        """
        self._connection.send((target, content))
        if self._connection.poll(SECONDS):
            try:
                return self._connection.recv()
            except EOFError:
                self._process.join()
                outcome = ("fault", f"the process died with exit status {self._process.exitcode}")
        else:
            outcome = ("fault", f"no end after {SECONDS} seconds")
        self._stop()
        self._start()
        return outcome

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._folder), daemon=True)
        self._process.start()
        other.close()
        if not self._connection.poll(PATIENCE) or self._connection.recv() != "ready":
            raise RuntimeError("The fuzzing process does not start.")

    def _stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Connection, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["MM_OVSEG_MAX_PIXELS"] = str(MOST_PIXELS)
    os.environ["DETECTRON2_DATASETS"] = str(folder)
    os.chdir(folder)
    os.dup2(os.open(folder / "stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)  # libtiff's own complaints
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    connection.send("ready")
    while True:
        try:
            target, content = connection.recv()
        except EOFError:
            return
        try:
            TARGETS[target](content, folder)
            outcome = ("result", "")
        except MMOVSegError as error:
            outcome = ("refused", type(error).__name__)
        except BaseException as error:
            outcome = ("fault", _signature(error))
        connection.send(outcome)


def _signature(error: BaseException) -> str:
    """Of an error, its type and the last line of ours that it passed: the same for the same defect."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/mm_ovseg/" in frame.filename]
    place = f"{frames[-1].filename.rpartition('/mm_ovseg/')[2]}:{frames[-1].lineno}" if frames else "outside"
    return f"{type(error).__name__} at {place}: {str(error)[:200]}".replace("\n", " ")
