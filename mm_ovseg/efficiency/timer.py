"""Timing with warm-up, repeats, and synchronisation with the device."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

__all__ = ["Timing", "now", "time_runs"]


@dataclass(frozen=True)
class Timing:
    """Durations of several runs: wall-clock time, and processor time of all threads of this process."""

    seconds: list[float]
    cpu_seconds: list[float]

    def per_pair(self, pairs: int, prefix: str = "") -> dict[str, Any]:
        """Fields of a report: the median and all runs, divided by the number of pairs per run."""
        seconds = [run / pairs for run in self.seconds]
        return {
            f"{prefix}seconds_per_pair": statistics.median(seconds),
            f"{prefix}seconds_per_pair_all": seconds,
            f"{prefix}cpu_seconds_per_pair": statistics.median(self.cpu_seconds) / pairs,
        }


def now(device: torch.device) -> float:
    """The time in seconds, after the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        torch.get_device_module(device).synchronize()  # for MPS, it takes no device
    return time.perf_counter()


def time_runs(
    *functions: Callable[[], object], device: torch.device, runs: int, warmup: int = 0, title: str = ""
) -> list[Timing]:
    """Time functions in turn, so that noise on the machine affects all of them equally.

    Args:
        functions: the functions to time, on ``device``.
        runs: timed calls of each function.
        warmup: untimed calls of each function before them.
        title: title of the progress bar; "" for none.

    Returns:
        A timing for each function.
    """
    for function in functions:
        for _ in range(warmup):
            function()
    timings = [Timing([], []) for _ in functions]
    for _ in tqdm(range(runs), desc=title, unit="run", disable=None if title else True):
        for function, timing in zip(functions, timings, strict=True):
            start, cpu_start = now(device), time.process_time()
            function()
            timing.seconds.append(now(device) - start)
            timing.cpu_seconds.append(time.process_time() - cpu_start)
    return timings
