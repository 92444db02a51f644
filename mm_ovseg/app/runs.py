"""Stopping the model for visitors who have left."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Runs"]


class Runs:
    """Stops the runs of visitors who have left; Gradio itself only cancels queued runs.

    A visitor is present as long as the stream is open on which the page waits for results.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, threading.Event] = {}
        self._listening: Counter[str] = Counter()

    @contextmanager
    def of(self, session: str) -> Iterator[Callable[[], bool]]:
        """Run something for a session of the page; yields a function that returns whether to stop."""
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
        """Stop all runs when the server stops."""
        with self._lock:
            for left in self._running.values():
                left.set()

    def listen(self, session: str) -> None:
        """Note that a session has opened a stream."""
        with self._lock:
            self._listening[session] += 1

    def leave(self, session: str, *, finished: bool) -> None:
        """Note that a stream of a session is closed: by the server if ``finished``, else by the visitor."""
        with self._lock:
            self._listening -= Counter([session])  # removes zero counts
            if not finished and session not in self._listening and session in self._running:
                self._running[session].set()
