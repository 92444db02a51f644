"""What the machine is and does: its name, its matrix products, the memory of this process."""

import platform
import re
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["device_name", "matrix_rate", "peak_memory", "reset_peak_memory", "resident_mb", "synchronize"]

MATRIX_SHAPE = (2304, 768, 3072)  # (2304 x 768) by (768 x 3072): DINO ViT-B/8 at 384 pixels, into its MLP
MATRIX_REPEATS = 30  # samples, the best of which counts
MOST_SECONDS = 20  # of sampling: CPUs without float16 arithmetic may take ten for one product
QUEUED_PRODUCTS = 20  # in a sample on an accelerator, where starting a single one takes as long as computing it
MEGABYTE = 1e6


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        torch.get_device_module(device).synchronize()  # that of MPS takes no device


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The rate of a matrix product in GFLOP/s, a multiply-add counted as two: the best of several."""
    rows, inner, columns = MATRIX_SHAPE
    left = torch.ones(rows, inner, device=device, dtype=dtype)
    right = torch.ones(inner, columns, device=device, dtype=dtype)
    product = torch.empty(rows, columns, device=device, dtype=dtype)
    products = 1 if device.type == "cpu" else QUEUED_PRODUCTS
    best, begin = float("inf"), time.perf_counter()
    for _ in range(MATRIX_REPEATS):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(products):
            torch.mm(left, right, out=product)
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / products)
        if time.perf_counter() - begin > MOST_SECONDS:
            break
    return 2 * rows * inner * columns / best / 1e9


def device_name(device: torch.device) -> str:
    """The name of the GPU or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    name = found[1] if found else platform.processor() or platform.machine()
    return name if device.type == "cpu" else f"{device.type} of {name}"


def resident_mb() -> float:
    """Resident memory of this process now, in MB (10^6 bytes); without Linux's /proc its peak so far."""
    return _status_mb("VmRSS") or _peak_resident_mb()


def peak_memory(device: torch.device, resident_at_start: float) -> dict[str, float | None]:
    """The most memory used so far, in MB (10^6 bytes).

    Args:
        device: on a CUDA device, the memory of its tensors is given too.
        resident_at_start: the :func:`resident_mb` that the model is not to be blamed for.
    """
    peak = _peak_resident_mb()
    return {
        "peak_rss_mb": peak,
        "peak_rss_above_imports_mb": peak - resident_at_start,
        "peak_cuda_memory_mb": torch.cuda.max_memory_allocated(device) / MEGABYTE if device.type == "cuda" else None,
    }


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peaks so far, so that :func:`peak_memory` tells those from here on; of the process on Linux only."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_resident_mb() -> float:
    # Not getrusage where there is another way: Linux hands a child the peak of the process that started it.
    if measured := _status_mb("VmHWM"):
        return measured
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / MEGABYTE


def _status_mb(field: str) -> float | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 / MEGABYTE if found else None
