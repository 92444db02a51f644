import mmap

import pytest
import torch

from mm_ovseg.efficiency import machine

CPU = torch.device("cpu")


def test_memory_is_that_of_this_process():
    before = machine.resident_mb()
    with mmap.mmap(-1, 50_000_000) as taken:  # new pages; a tensor may get some that an earlier one has left
        taken.write(bytes(50_000_000))
        peak = machine.peak_memory(CPU, before)
    assert peak["peak_rss_mb"] >= before + 45
    assert peak["peak_rss_above_imports_mb"] == peak["peak_rss_mb"] - before


def test_without_proc_the_peak_is_asked_of_the_system(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "PROCESS_STATUS", tmp_path / "status")
    assert machine.resident_mb() == pytest.approx(machine.peak_memory(CPU, 0.0)["peak_rss_mb"], rel=0.1)


@pytest.mark.parametrize(
    "text, name, flags",
    [
        ("model name\t: EPYC\nflags\t\t: fpu avx2 avx512f avx512f_other\n", "EPYC", ["avx2", "avx512f"]),
        ("processor\t: 0\nFeatures\t: asimd\n", None, []),
    ],
)
def test_the_cpu_is_named_with_the_flags_that_matter(monkeypatch, tmp_path, text, name, flags):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    described = machine.describe_machine(CPU)
    assert described["cpu_flags"] == flags
    assert described["device_name"] == name if name else described["device_name"]


def test_slow_matrix_products_are_not_repeated(monkeypatch):
    calls = []

    def multiply(left, right, out):
        calls.append(out)
        return out

    monkeypatch.setattr(machine, "MATRIX_SECONDS", 0)
    monkeypatch.setattr(torch, "mm", multiply)
    assert machine.matrix_rate(CPU, torch.float32) > 0
    assert len(calls) == 1
