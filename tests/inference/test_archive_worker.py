"""What a worker answers, in this process and with a stub model."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.decision import Decision
from mm_ovseg.engine import load_config
from mm_ovseg.errors import CheckpointError
from mm_ovseg.inference import scene as scene_module
from mm_ovseg.inference.archive_worker import Outcome, SceneWorker
from mm_ovseg.inference.scene import ScenePredictor
from mm_ovseg.inference.scene_options import SceneOptions
from tests.conftest import ROOT

OPTIONS = SceneOptions(window=40)


class StubPredictor:
    """Of two classes, the second everywhere."""

    def __init__(self, cfg, class_names, **options):
        self.decision, self.lock = Decision(class_names), threading.RLock()

    def model(self, items):
        return [{"sem_seg": torch.tensor([0.2, 0.8])[:, None, None].expand(2, *i["image"].shape[1:])} for i in items]

    model.needs_sar = model.bounded_scores = True


@pytest.fixture
def make_worker(monkeypatch):
    """A function ``legend -> worker`` that is ready; the legend is ``colors`` and ``unseen``."""
    monkeypatch.setattr(scene_module, "Predictor", StubPredictor)
    cfg = load_config(ROOT / "projects/laptop/configs/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"])

    def make(**legend):
        worker = SceneWorker(lambda: ScenePredictor(cfg, ["a", "b"], **legend), torch.get_num_threads(), os.getcwd())
        assert worker.build() == Outcome("ready")
        return worker

    return make


@pytest.fixture
def worker(make_worker):
    return make_worker()


@pytest.fixture
def scene(tmp_path):
    """50 x 60 pixels, of which the right half has SAR."""
    values = np.random.default_rng(0).integers(1, 255, (3, 50, 60), dtype=np.uint8)
    sar = values[:1].copy()
    sar[..., :30] = 0
    for name, bands in (("rgb", values), ("sar", sar)):
        profile = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10), "nodata": 0}
        profile |= {"driver": "GTiff", "dtype": "uint8", "width": 60, "height": 50, "count": len(bands)}
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as file:
            file.write(bands)
    return SceneFiles("map", (tmp_path / "rgb.tif",), (tmp_path / "sar.tif",))


def test_a_finished_map_is_skipped_only_where_all_is_as_it_was(worker, scene, tmp_path):
    output = tmp_path / "maps" / "map.tif"
    assert worker.segment(scene, output, OPTIONS) == Outcome("done", 0.5)
    again = replace(OPTIONS, resume=True)
    assert worker.segment(scene, output, again) == Outcome("skipped", 0.5)
    assert worker.segment(scene, output, OPTIONS).status == "done"  # not asked to resume
    for other in (replace(again, window=30), replace(again, confidence=True)):
        assert worker.segment(scene, output, other).status == "done"
        assert worker.segment(scene, output, other).status == "skipped"
    # The map of an earlier run beside the work of a later one may be either's.
    whole = replace(again, confidence=True)
    work = output.with_name("map.tif.work")
    work.mkdir()
    assert worker.segment(scene, output, whole).status == "done" and not work.exists()
    for damage in (
        output.with_suffix(".qml").unlink,
        output.with_name("map_coverage.tif").unlink,
        lambda: output.with_suffix(".json").write_text("{}"),
        lambda: os.utime(scene.sar[0], (1, 1)),
    ):
        assert worker.segment(scene, output, whole).status == "skipped"
        damage()
        assert worker.segment(scene, output, whole).status == "done"


def test_a_map_with_another_legend_is_made_again(make_worker, scene, tmp_path):
    output = tmp_path / "map.tif"
    again = replace(OPTIONS, resume=True)
    make_worker().segment(scene, output, OPTIONS)
    for legend in ({"unseen": ["b"]}, {"unseen": ["b"], "colors": [(1, 2, 3), (4, 5, 6)]}, {}):
        worker = make_worker(**legend)
        assert worker.segment(scene, output, again).status == "done"
        assert worker.segment(scene, output, again).status == "skipped"
        classes = json.loads(output.with_suffix(".json").read_text())["classes"]
        assert [area["unseen"] for area in classes] == [False, bool(legend)]
        with rasterio.open(output) as file:
            colors = [list(file.colormap(1)[index][:3]) for index in range(2)]
        assert [area["color"] for area in classes] == colors
    assert colors != [[1, 2, 3], [4, 5, 6]]


def test_a_corrected_shift_and_polygons_are_recognised(worker, scene, tmp_path, monkeypatch):
    found = scene_module.ShiftEstimate(rows=1.0, columns=-2.0, spread=0.1, windows=4, reliable=True)
    monkeypatch.setattr(scene_module, "estimate_shift", lambda windows: found)
    options = replace(OPTIONS, correct_shift=True, resume=True)
    output = tmp_path / "map.tif"
    polygons = replace(options, vector=output.with_suffix(".gpkg"))
    large = replace(polygons, min_area=1.0)
    steps = ((options, "done"), (options, "skipped"), (polygons, "done"), (polygons, "skipped"), (large, "done"))
    for asked, status in steps:
        assert worker.segment(scene, output, asked).status == status


def test_faults_of_files_stay_and_others_are_tried_again(worker, scene, tmp_path, monkeypatch):
    missing = replace(scene, sar=(Path("none.tif"),))
    outcome = worker.segment(missing, tmp_path / "map.tif", replace(OPTIONS, resume=True))
    assert outcome.status == "failed" and "none.tif does not exist" in outcome.error and not outcome.retry

    def broken(self, items):
        return 1 / 0

    broken.needs_sar = broken.bounded_scores = True
    monkeypatch.setattr(StubPredictor, "model", broken)
    worker.build()
    outcome = worker.segment(scene, tmp_path / "map.tif", OPTIONS)
    assert outcome == Outcome("failed", error="ZeroDivisionError: division by zero", retry=True)


def test_a_model_that_cannot_be_built(tmp_path):
    def fail(error):
        raise error

    here = os.getcwd()
    for error, expected in (
        (CheckpointError("The file lacks weights."), Outcome("failed", error="The file lacks weights.")),
        (RuntimeError("odd"), Outcome("failed", error="RuntimeError: odd", retry=True)),
    ):
        worker = SceneWorker(lambda error=error: fail(error), torch.get_num_threads(), str(tmp_path / "elsewhere"))
        assert worker.build() == expected
    assert os.getcwd() == here


def test_what_a_killed_process_left_of_a_map_is_removed(worker, scene, tmp_path):
    ours = [".map.123.tmp.tif", ".map_coverage.5.tmp.tif", ".map.9.tmp.gpkg-journal"]
    ours += [".map_stac.7.tmp.json", ".map.tif.aux.8.tmp.xml"]
    others = [".map.v2.123.tmp.tif", ".map_b.1.tmp.tif", ".other.1.tmp.tif", "map.1.tmp.tif"]
    for name in (*ours, *others):
        (tmp_path / name).touch()
    worker.segment(scene, tmp_path / "map.tif", OPTIONS)
    assert not any((tmp_path / name).exists() for name in ours)
    assert all((tmp_path / name).exists() for name in others)
