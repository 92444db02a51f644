"""Making items in a thread of their own, a few ahead of their use."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["prefetched"]

Item = TypeVar("Item")
POLL_SECONDS = 0.1


@contextmanager
def prefetched(items: Iterable[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Run an iterable in a thread; the block gets its items, in their order.

    with prefetched(read_windows(), depth=8) as windows:
        for window in windows: ...

    Args:
        items: makes the items; an error that it raises is raised to who takes the item.
        depth: items that may wait to be taken.
    """
    waiting: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()
    end = object()

    def put(value: tuple) -> bool:
        while not stop.is_set():
            try:
                waiting.put(value, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:  # raised again where the item is taken
            put((end, error))

    def take() -> Iterator[Item]:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item

    thread = threading.Thread(target=work, daemon=True, name="prefetch")
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        thread.join()
