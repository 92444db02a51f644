import time

import torch

from mm_ovseg.efficiency import Timing, time_runs

CPU = torch.device("cpu")


def test_functions_take_turns_after_the_warm_up():
    calls = []
    timings = time_runs(lambda: calls.append("a"), lambda: calls.append("b"), device=CPU, runs=3, warmup=2)
    assert "".join(calls) == "aabb" + "ab" * 3
    assert [len(timing.seconds) for timing in timings] == [len(timing.cpu_seconds) for timing in timings] == [3, 3]


def test_waiting_takes_time_but_no_processor_time():
    [timing] = time_runs(lambda: time.sleep(0.1), device=CPU, runs=1)
    assert timing.seconds[0] >= 0.1 > timing.cpu_seconds[0]


def test_a_report_has_the_median_and_all_runs_per_pair():
    assert Timing([6.0, 2.0, 3.0], [2.0, 2.0, 1.0]).per_pair(2, prefix="our_") == {
        "our_seconds_per_pair": 1.5,
        "our_seconds_per_pair_all": [3.0, 1.0, 1.5],
        "our_cpu_seconds_per_pair": 1.0,
    }
