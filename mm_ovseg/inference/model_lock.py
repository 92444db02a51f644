"""A lock that keeps a model to the threads of one process."""

import os
import threading
from typing import NoReturn

from mm_ovseg.errors import ProcessError

__all__ = ["ModelLock"]


class ModelLock:
    """A reentrant lock for the threads of the process that makes it; a context manager.

    A fork has no copies of PyTorch's threads, for which a model would wait forever there, and none of CUDA. Whether
    they are needed depends on the device, the number of threads and what has run before, so every fork is refused.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        """Wait for the lock.

        Raises:
            ProcessError: this is another process.
        """
        if os.getpid() != self._process:
            raise ProcessError(
                f"This predictor belongs to process {self._process}, and its fork {os.getpid()} cannot use it: PyTorch "
                "could wait forever for threads that a fork does not copy; build a predictor in each process "
                "(gunicorn: without --preload)."
            )
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, and with it the model.

        Raises:
            ProcessError: always.
        """
        raise ProcessError("A predictor cannot be copied or sent to another process; build one there.")
