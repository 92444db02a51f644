"""The soak test itself: it counts, and it sees what is lost."""

import json

import numpy as np
import pytest

from mm_ovseg.inference.archive_worker import Outcome
from tests.conftest import load_tool


@pytest.fixture(scope="module")
def tool():
    return load_tool("soak")


def read_report(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["files", "report.json"]
    assert list((folder / "files").iterdir()) == []
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_nothing_is_lost_and_every_failure_is_told(tool, tmp_path, capsys):
    tool.main(["--minutes", "5", "--jobs", "8", "--seed", "4", "--output", str(tmp_path)])
    report = read_report(tmp_path)
    assert sum(report["jobs"].values()) == sum(report["faults"].values()) == 8
    assert report["lost"] == [] and report["batches_halved"] > 0
    injected = sum(count for fault, count in report["faults"].items() if fault not in ("none", "out of memory"))
    assert len(report["failures"]) == report["ends"]["failed"] == injected > 0
    assert "0 lost" in capsys.readouterr().out


def test_a_lost_map_is_seen(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool.SceneWorker, "segment", lambda *_: Outcome("failed", error="It did not work."))
    monkeypatch.setattr(tool, "FAULTS", ("none",))
    with pytest.raises(SystemExit) as stop:
        tool.main(["--jobs", "4", "--seed", "3", "--minutes", "2", "--output", str(tmp_path)])
    assert stop.value.code == 1
    assert "is sound and failed: It did not work." in capsys.readouterr().err


def test_a_fault_that_is_not_told_is_seen(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool.Soak, "_damage", lambda *_: None)
    monkeypatch.setattr(tool, "FAULTS", ("cut off",))
    with pytest.raises(SystemExit):
        tool.main(["--jobs", "3", "--minutes", "2", "--output", str(tmp_path)])
    assert all("'cut off'" in line for line in read_report(tmp_path)["lost"])


def test_memory_that_grows_is_seen(tool):
    seconds = np.arange(1000.0)
    flat = tool.memory_report([(second, 500 + 300 * (second < 100)) for second in seconds])
    assert flat["growth_mib"] == flat["slope_mib_per_hour"] == 0
    growing = tool.memory_report([(second, 500 + second / 4) for second in seconds])
    assert growing["slope_mib_per_hour"] == pytest.approx(900)
    assert growing["growth_mib"] > tool.MAX_GROWTH


def test_wrong_arguments(tool, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool.main(["--minutes", "0", "--output", str(tmp_path)])
    assert "need positive numbers" in capsys.readouterr().err
