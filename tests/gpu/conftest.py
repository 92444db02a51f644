"""The device of the tests, the limits that they check, and the table of what they measured (docs/GPU.md)."""

import os
import platform

import detectron2
import pytest
import torch

from mm_ovseg import __version__
from mm_ovseg.efficiency import Workload
from mm_ovseg.efficiency.machine import describe_machine
from mm_ovseg.efficiency.report import format_table
from mm_ovseg.modeling.precision import allow_tf32

DEVICE = torch.device(os.environ.get("MM_OVSEG_GPU_TESTS", "cuda"))
STAGES = {1: "cmu", 2: "mm_ovseg"}
# Images of 64 pixels; all tokens, since a sample would differ between devices and between numbers of processes.
SMALL = ["MODEL.DEVICE", str(DEVICE), "MODEL.DENSE_ENCODER.IMAGE_SIZE", 64, "MODEL.CLIP.IMAGE_SIZE", 64]
SMALL += ["INPUT.CROP.SIZE", "(64, 64)", "INPUT.MIN_SIZE_TRAIN", "(64,)", "MODEL.AGGREGATOR.WINDOW_SIZE", 4]
SMALL += ["CMU.TOKENS_PER_IMAGE", 10000]


@pytest.fixture(scope="session", autouse=True)
def device():
    """CUDA, or what MM_OVSEG_GPU_TESTS names."""
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU (docs/GPU.md)")
    return DEVICE


@pytest.fixture(autouse=True)
def ieee_float32(device):
    """Products of float32 are exact to its 24 bits, but in a test that allows TF32."""
    allow_tf32(False)
    yield
    allow_tf32(False)


@pytest.fixture
def check(record_property):
    """A function ``(what, value, limit)`` that puts a measured value into the table, and asserts the limit if any."""

    def check(what, value, limit=None):
        record_property(what, (f"{value:.3g}", "" if limit is None else f"{limit:.3g}"))
        assert limit is None or value <= limit, what

    return check


@pytest.fixture
def make_workload(make_cfg):
    """A function ``(stage, *overrides, dtype="float32") -> workload`` of two pairs for a tiny model on the device."""

    def make(stage, *overrides, dtype="float32"):
        cfg = make_cfg(f"configs/quickstart/{STAGES[stage]}.yaml", *SMALL, *overrides)
        return Workload(cfg, dtype=dtype, batch_size=2)

    return make


def pytest_terminal_summary(terminalreporter):
    """Print the table, if a test of this folder ran."""
    reports = [
        (outcome, report)
        for outcome in ("passed", "failed", "error")
        for report in terminalreporter.stats.get(outcome, [])
        if report.nodeid.startswith("tests/gpu/") and (report.when == "call" or outcome == "error")
    ]
    if not reports:
        return
    rows = []
    for outcome, report in sorted(reports, key=lambda pair: pair[1].nodeid):
        test = report.nodeid.removeprefix("tests/gpu/").replace(".py::", ": ")
        measured = report.user_properties or [("", ("", ""))]
        rows += [[test, what, value, limit, outcome] for what, (value, limit) in measured]
    skipped = sum(report.nodeid.startswith("tests/gpu/") for report in terminalreporter.stats.get("skipped", []))
    terminalreporter.section("measured, as Markdown (docs/GPU.md)")
    terminalreporter.write_line(f"{_describe()} {len(reports)} tests ran, {skipped} were skipped.\n")
    terminalreporter.write_line(format_table(rows, ["test", "measured", "value", "limit", "result"]))


def _describe():
    machine = describe_machine(DEVICE)
    where = machine["device_name"]
    if DEVICE.type == "cuda":
        properties = torch.cuda.get_device_properties(DEVICE)
        where = f"{torch.cuda.device_count()} x {where} ({properties.major}.{properties.minor}, "
        where += f"{properties.total_memory / 2**30:.0f} GiB), CUDA {torch.version.cuda}, "
        where += f"cuDNN {torch.backends.cudnn.version()}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}"
    versions = f"PyTorch {torch.__version__}, Detectron2 {detectron2.__version__}, Python {platform.python_version()}"
    return f"mm_ovseg {__version__} on {where}; {versions}."
