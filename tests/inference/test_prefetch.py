import threading

import pytest

from mm_ovseg.inference.prefetch import prefetched


def test_items_come_in_order_and_few_wait():
    made = []

    def make():
        for item in range(50):
            made.append(item)
            yield item

    with prefetched(make(), depth=3) as items:
        for count, item in enumerate(items):
            assert item == count
            assert len(made) <= count + 1 + 3 + 2  # those waiting, the one in the hand of each side
    assert made == list(range(50))


def test_an_error_reaches_who_takes_the_item_after_those_before_it():
    def make():
        yield 1
        raise OSError("unreadable block")

    with pytest.raises(OSError, match="unreadable"), prefetched(make(), depth=4) as items:
        assert next(items) == 1
        next(items)


def test_leaving_the_block_early_ends_the_thread():
    with prefetched(iter(int, 1), depth=2) as items:  # without end
        next(items)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
