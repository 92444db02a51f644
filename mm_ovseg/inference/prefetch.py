"""Making items in a background thread, a few ahead of their use."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["prefetched"]

Item = TypeVar("Item")


@contextmanager
def prefetched(items: Iterable[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Run an iterable in a background thread, and yield an iterator over its items.

    with prefetched(read_windows(), depth=8) as windows:
        for window in windows: ...

    Args:
        items: makes the items; its errors are raised where the item is consumed.
        depth: the number of items to make ahead.
    """
    iterator, end = iter(items), object()
    executor = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    waiting = deque(executor.submit(next, iterator, end) for _ in range(depth))

    def take() -> Iterator[Item]:
        while (item := waiting.popleft().result()) is not end:
            waiting.append(executor.submit(next, iterator, end))
            yield item

    try:
        yield take()
    finally:
        executor.shutdown(cancel_futures=True)
