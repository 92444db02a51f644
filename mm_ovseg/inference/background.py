"""Calls in a background thread, in order, while the caller goes on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["Background"]


class Background:
    """Runs calls one after another in its thread; a context manager, whose block ends when all are done.

    After one that has failed, the others are skipped. Its error is raised by a later call, or where the block ends.

    with Background("write", max_waiting=2) as write:
        for rows in ...:
            write(file.append, rows)

    Args:
        name: of the thread.
        max_waiting: the number of unfinished calls with which another one waits, so that memory stays bounded.
    """

    def __init__(self, name: str, max_waiting: int) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._max_waiting = max_waiting
        self._calls: deque[Future] = deque()
        self._has_failed = False

    def __call__(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run a call after those before it."""
        if len(self._calls) == self._max_waiting:
            self._calls.popleft().result()
        self._calls.append(self._executor.submit(self._run, function, arguments))

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._executor.shutdown()
        if kind is None:
            for call in self._calls:
                call.result()

    def _run(self, function: Callable[..., object], arguments: tuple) -> None:
        if self._has_failed:
            return
        try:
            function(*arguments)
        except BaseException:
            self._has_failed = True
            raise
