"""The runs of the model that visitors wait for."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Runs"]


class Runs:
    """Ends a run whose visitor has left. Gradio itself takes only those that have not begun out of its queue.

    A visitor is there as long as the stream is open on which the page waits for its result.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, threading.Event] = {}
        self._listening: Counter[str] = Counter()

    @contextmanager
    def of(self, session: str) -> Iterator[Callable[[], bool]]:
        """Run something for a session of the page; the block gets a function that tells whether to end."""
        left = threading.Event()
        with self._lock:
            self._running[session] = left
        try:
            yield left.is_set
        finally:
            with self._lock:
                if self._running.get(session) is left:
                    del self._running[session]

    def end(self) -> None:
        """End all runs, as the server ends."""
        with self._lock:
            for left in self._running.values():
                left.set()

    def listen(self, session: str) -> None:
        """A stream is opened for a session."""
        with self._lock:
            self._listening[session] += 1

    def leave(self, session: str, *, finished: bool) -> None:
        """A stream of a session is closed, by this side where it has ``finished``."""
        with self._lock:
            self._listening[session] -= 1
            if self._listening[session] > 0:
                return
            del self._listening[session]
            if not finished and session in self._running:
                self._running[session].set()
