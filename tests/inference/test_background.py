import threading

import pytest

from mm_ovseg.inference.background import Background


def test_calls_run_in_order_and_are_done_where_the_block_ends():
    done = []
    with Background("append", max_waiting=2) as append:
        for number in range(50):
            append(done.append, number)
            assert len(done) >= number - 1  # two calls at most are not finished
    assert done == list(range(50))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("append")]


def test_an_error_is_raised_by_a_later_call_and_what_follows_it_is_skipped():
    done = []
    with pytest.raises(OSError, match="disk is full"), Background("write", max_waiting=1) as write:
        write(done.append, 1)
        write(full)
        write(done.append, 2)
    assert done == [1]


def test_an_error_of_the_last_call_is_raised_where_the_block_ends():
    with pytest.raises(OSError, match="disk is full"), Background("write", max_waiting=3) as write:
        write(full)
        write(print)


def test_an_error_in_the_block_is_not_replaced_and_calls_before_it_are_finished():
    done = []
    with pytest.raises(KeyboardInterrupt), Background("write", max_waiting=9) as write:
        write(done.append, 1)
        write(full)
        raise KeyboardInterrupt
    assert done == [1]


def full():
    raise OSError("disk is full")
