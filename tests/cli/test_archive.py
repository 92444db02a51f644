"""`mm-ovseg archive` as a user runs it, with a small random model."""

import csv
import os
import shutil
from collections import deque

import pytest
import rasterio
import torch

from laptop.drawn_world import SYNTHETIC_CLASSES, write_synthetic_dataset
from mm_ovseg.cli.archive import place_on_gpus
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference import archive_pool
from mm_ovseg.inference.archive_worker import SceneWorker
from tests.conftest import ROOT, run_cli, run_cli_process, save_random_weights

NAMES = ",".join(SYNTHETIC_CLASSES)
CONFIG = ROOT / "projects" / "laptop" / "configs" / "mm_ovseg.yaml"


class LocalPool:
    """One worker in this process."""

    interrupt = False

    def __init__(self, make_predictor, *, num_workers, address, gpus_per_worker):
        self.size, self._answers = 1, deque()
        self._worker = SceneWorker(make_predictor, torch.get_num_threads(), os.getcwd())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def start(self):
        self._answers.append((1, self._worker.build()))
        return 1

    def submit(self, worker, *job):
        self._answers.append((worker, self._worker.segment(*job)))

    def wait(self):
        if self.interrupt:
            raise KeyboardInterrupt
        return self._answers.popleft()

    def stop(self, worker):
        pass


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pairs of 96 x 96 pixels and random weights."""
    folder = tmp_path_factory.mktemp("archive") / "data"
    write_synthetic_dataset(folder, num_train=0, num_val=3, size=96, file_format="tif")
    save_random_weights(CONFIG, folder / "model.pth")
    return folder


@pytest.fixture
def archive(data, tmp_path):
    """A whole pair, RGB alone, a broken RGB file, a pair that lacks its SAR file, and SAR alone."""
    for index in range(3):
        for kind, source in (("rgb", "rgb_clouds"), ("sar", "sar")):
            shutil.copy(data / "val" / source / f"0000{index}.tif", tmp_path / f"{kind}{index}.tif")
    (tmp_path / "sar2.tif").rename(tmp_path / "away.tif")
    (tmp_path / "rgb1.tif").rename(tmp_path / "alone.tif")
    (tmp_path / "rgb1.tif").write_bytes(b"II*\0 broken")
    manifest = tmp_path / "pairs.csv"
    manifest.write_text(
        "rgb,sar,name\nrgb0.tif,sar0.tif,\nalone.tif,,\nrgb1.tif,sar1.tif,broken\nrgb2.tif,sar2.tif,\n,sar0.tif,\n"
    )
    return manifest


def command(archive, data, *more):
    words = ["--config-file", CONFIG, "--manifest", archive, "--output-dir", archive.parent / "maps"]
    words += ["--classes", NAMES, *more, "--opts", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", data / "model.pth"]
    return [str(word) for word in words]


def read_results(archive):
    with open(archive.parent / "maps" / "results.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_with_another_background_the_maps_are_made_again(archive, data, monkeypatch, capsys):
    archive.write_text("rgb,sar\nrgb0.tif,sar0.tif\n")
    monkeypatch.setattr(archive_pool, "RayPool", LocalPool)
    words = ["--background", "something else", "--min-score", "0.01", "--resume"]
    for more, expected in (([], "1 done, 0 skipped"), (words, "1 done, 0 skipped"), (words, "0 done, 1 skipped")):
        run_cli("archive", *command(archive, data, *more))
        assert expected in capsys.readouterr().out
    with rasterio.open(archive.parent / "maps" / "rgb0.tif") as file:
        assert file.tags(1)["class_254"] == "none"


def test_an_archive_with_bad_scenes_and_what_resuming_does(archive, data, monkeypatch, capsys, ray):
    done = run_cli_process("archive", *command(archive, data, "--num-workers", 1))
    assert done.returncode == 1, done.stderr
    results = read_results(archive)
    assert {name: row["status"] for name, row in results.items()} == {
        "rgb0": "done", "alone": "done", "broken": "failed", "rgb2": "failed", "sar0": "done",
    }  # fmt: skip
    assert "rgb1.tif cannot be read" in results["broken"]["error"]
    assert "sar2.tif does not exist" in results["rgb2"]["error"]
    assert [results[name]["sar_share"] for name in ("rgb0", "alone", "sar0")] == ["1.0", "0.0", "1.0"]
    assert all(row["attempts"] == "1" for row in results.values())
    table = archive.parent / "maps" / "results.csv"
    assert f"2 of 5 scenes failed; see {table} for the reasons." in done.stderr and "scene/s" in done.stderr
    assert "broken failed: " in done.stderr and "3 done, 0 skipped, 2 failed" in done.stdout
    assert "Traceback" not in done.stderr and "raylet" not in done.stdout + done.stderr
    assert sorted(path.name for path in table.parent.glob("*.tif")) == [
        "alone.tif", "alone_coverage.tif", "rgb0.tif", "rgb0_coverage.tif", "sar0.tif", "sar0_coverage.tif",
    ]  # fmt: skip

    # Mended, the rest is done and no more.
    (archive.parent / "away.tif").rename(archive.parent / "sar2.tif")
    shutil.copy(archive.parent / "alone.tif", archive.parent / "rgb1.tif")
    before = (table.parent / "rgb0.tif").stat().st_mtime_ns
    monkeypatch.setattr(archive_pool, "RayPool", LocalPool)
    run_cli("archive", *command(archive, data, "--resume"))
    assert [row["status"] for row in read_results(archive).values()] == [
        "skipped",
        "skipped",
        "done",
        "done",
        "skipped",
    ]
    assert "2 done, 3 skipped, 0 failed" in capsys.readouterr().out
    assert (table.parent / "rgb0.tif").stat().st_mtime_ns == before


def test_a_stopped_run_says_how_to_go_on(archive, data, monkeypatch, capsys):
    monkeypatch.setattr(LocalPool, "interrupt", True)
    monkeypatch.setattr(archive_pool, "RayPool", LocalPool)
    with pytest.raises(SystemExit) as stop:
        run_cli("archive", *command(archive, data, "--quiet"))
    assert stop.value.code == 130 and "with --resume continues" in capsys.readouterr().err


def test_what_is_wrong_for_all_scenes_is_one_sentence_before_any(archive, data, monkeypatch, capsys):
    monkeypatch.setattr(archive_pool, "RayPool", LocalPool)
    for more, message in (
        (("--window", "-5"), "window"),
        (("--gsd", "-5"), "sampling distance"),
        (("--aoi", "none.geojson"), "'none.geojson' of --aoi does not exist"),
        (("--clouds", "none.tif"), "'none.tif' of --clouds does not exist"),
        (("--cloud-values", "scl"), "belong to --clouds"),
        (("--unseen", "unheard"), "unheard"),
        (("--manifest", "none.csv"), "none.csv cannot be read"),
        (("--output-dir", archive / "maps"), "cannot be written to"),
        (("--retries", "-1"), "retries"),
        (("--opts", "MODEL.WEIGHTS", "none.pth"), "none.pth"),
    ):
        with pytest.raises(SystemExit) as stop:
            words = command(archive, data, *more)
            run_cli("archive", *(words if "--opts" not in more else [*words[: words.index("--opts")], *more]))
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert not (archive.parent / "maps" / "results.csv").exists()


def test_the_gpus_of_a_worker():
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu"])
    assert place_on_gpus(cfg, None) == (cfg, 0)
    there, gpus = place_on_gpus(cfg, 0.5)
    assert (there.MODEL.DEVICE, gpus, cfg.MODEL.DEVICE) == ("cuda", 0.5, "cpu")
    assert place_on_gpus(there, None) == (there, 1)
    second = there.clone()
    second.defrost()
    second.MODEL.DEVICE = "cuda:1"
    with pytest.raises(ConfigError, match="Ray assigns the workers"):
        place_on_gpus(second, None)
