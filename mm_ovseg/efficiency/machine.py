"""The machine of a measurement: its name and versions, its rate of matrix products, the memory of this process."""

import platform
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

from mm_ovseg.efficiency.timer import time_runs

__all__ = ["describe_machine", "matrix_rate", "peak_memory", "reset_peak_memory", "resident_mb"]

MATRIX_SHAPE = (2304, 768, 3072)  # (2304 x 768) by (768 x 3072): DINO ViT-B/8 at 384 pixels, into its MLP
MATRIX_RUNS, MATRIX_SECONDS = 30, 20  # whichever comes first; CPUs without float16 take ten seconds for one product
QUEUED_PRODUCTS = 20  # per run on an accelerator, where starting one product takes as long as computing it
PROCESS_STATUS, CPU_INFO = Path("/proc/self/status"), Path("/proc/cpuinfo")
# Instructions that decide which kernels of matrix products there are.
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
MEGABYTE = 1e6


def describe_machine(device: torch.device) -> dict[str, str | int | list[str]]:
    """Names of the device and processor, those of ``CPU_FLAGS`` that it has (on Linux), and versions."""
    cpu_info = ""
    with suppress(OSError):
        cpu_info = CPU_INFO.read_text("utf-8")
    # Some processors have no such lines.
    named, flags = (re.search(rf"^{key}\s*:\s*(.+)$", cpu_info, re.MULTILINE) for key in ("model name", "flags"))
    name = named[1] if named else platform.processor() or platform.machine()
    if device.type != "cpu":
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} of {name}"
    return {
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flags and flag in flags[1].split()],
        "system": platform.platform(),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
    }


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The best rate of a matrix product in GFLOP/s, counting a multiply-add as two."""
    rows, inner, columns = MATRIX_SHAPE
    left = torch.ones(rows, inner, device=device, dtype=dtype)
    right = torch.ones(inner, columns, device=device, dtype=dtype)
    product = torch.empty(rows, columns, device=device, dtype=dtype)
    products = 1 if device.type == "cpu" else QUEUED_PRODUCTS

    def multiply() -> None:
        for _ in range(products):
            torch.mm(left, right, out=product)

    [first] = time_runs(multiply, device=device, runs=1)
    [others] = time_runs(multiply, device=device, runs=min(MATRIX_RUNS, int(MATRIX_SECONDS / first.seconds[0])))
    return 2 * rows * inner * columns * products / min(first.seconds + others.seconds) / 1e9


def resident_mb() -> float:
    """Resident memory of this process now, in MB (10^6 bytes); the peak so far on systems without /proc."""
    return _memory_mb("VmRSS")


def peak_memory(device: torch.device, resident_at_start: float) -> dict[str, float | None]:
    """Peak memory so far, in MB (10^6 bytes).

    Args:
        device: on a CUDA device, the peak of its tensors is included.
        resident_at_start: :func:`resident_mb` before the model was built, which is subtracted.
    """
    peak = _memory_mb("VmHWM")
    return {
        "peak_rss_mb": peak,
        "peak_rss_above_imports_mb": peak - resident_at_start,
        "peak_cuda_memory_mb": torch.cuda.max_memory_allocated(device) / MEGABYTE if device.type == "cuda" else None,
    }


def reset_peak_memory(device: torch.device) -> None:
    """Reset what :func:`peak_memory` returns; for process memory, this works on Linux only."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _memory_mb(field: str) -> float:
    # Preferred to getrusage, which on Linux starts at the peak of the parent process.
    with suppress(OSError):
        status = PROCESS_STATUS.read_text(encoding="utf-8")
        return int(re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024 / MEGABYTE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / MEGABYTE
