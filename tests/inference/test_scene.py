"""Whole scenes through a stub model that answers from each pixel alone, so that every pixel of a map can be checked."""

import json
import threading

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.crs import CRS
from rasterio.transform import from_origin

from mm_ovseg.decision import Decision
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError, DataError, VocabularyError
from mm_ovseg.inference import scene as scene_module
from mm_ovseg.inference.coregistration import ShiftEstimate
from mm_ovseg.inference.model_lock import ModelLock
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from tests.conftest import ROOT, AnnouncingLock

CLASSES = ("dark", "middle", "bright & <white>")
UTM = CRS.from_epsg(32633)
PLACE = from_origin(500_000, 5_000_000, 10, 10)


class StubModel:
    """Scores by brightness of RGB; where it is given SAR with data, by that of SAR. Counts its batches."""

    needs_sar = bounded_scores = True

    def __init__(self):
        self.batches, self.stop_after, self.before = [], None, lambda: None

    def __call__(self, items):
        self.before()
        if self.stop_after is not None and len(self.batches) == self.stop_after:
            raise KeyboardInterrupt
        self.batches.append([item["sar_image"] is not None for item in items])
        outputs = []
        for item in items:
            assert item["image"].shape[1:] == (item["height"], item["width"])
            brightness = item["image"][0] / 255
            if item["sar_image"] is not None:
                brightness = torch.where(item["sar_valid"], item["sar_image"][0] / 255, brightness)
            outputs.append({"sem_seg": torch.stack([1 - brightness, torch.full_like(brightness, 0.5), brightness])})
        return outputs


class StubPredictor:
    def __init__(self, cfg, class_names, *, any_format, **options):
        self.model, self.lock = StubModel(), ModelLock()
        self.set_vocabulary(class_names, **options)

    def set_vocabulary(self, class_names, **options):
        self.decision = Decision(class_names, **options)
        self.class_names = self.decision.classes


@pytest.fixture
def predictor(monkeypatch):
    monkeypatch.setattr(scene_module, "Predictor", StubPredictor)
    return ScenePredictor(load_config(ROOT / "projects/laptop/configs/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"]), CLASSES)


def write(path, values, transform=PLACE, crs=UTM, **profile):
    values = values[None] if values.ndim == 2 else values
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, width=width, height=height, count=count, crs=crs,
        transform=transform, **profile,
    ) as file:  # fmt: skip
        file.write(values)
    return path


@pytest.fixture
def pair(tmp_path):
    """A scene of 150 x 117 pixels; RGB lacks rows 100 to 119, SAR columns 60 on."""
    generator = np.random.default_rng(0)
    rgb = np.repeat(generator.integers(1, 255, (1, 150, 117), dtype=np.uint8), 3, axis=0)
    rgb[:, 100:120] = 0
    sar = generator.integers(1, 255, (150, 117), dtype=np.uint8)
    sar[:, 60:] = 0
    return write(tmp_path / "rgb.tif", rgb, nodata=0), write(tmp_path / "sar.tif", sar, nodata=0)


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_a_scene_becomes_a_map_and_its_companions(predictor, pair, tmp_path):
    output = tmp_path / "maps" / "map.tif"
    options = SceneOptions(window=40, overlap=0.25, batch_size=3, confidence=True, probabilities=True)
    report = predictor.segment(*pair, output, options)
    names = {"map.tif", "map.qml", "map.json", "map_coverage.tif", "map_coverage.qml"}
    names |= {"map_confidence.tif", "map_probabilities.tif"}
    assert {path.name for path in output.parent.iterdir()} == names
    rgb, sar = read(pair[0])[0], read(pair[1])[0]
    coverage = np.where(sar == 0, np.where(rgb == 0, 0, 1), np.where(rgb == 0, 3, 2))
    np.testing.assert_array_equal(read(output.with_name("map_coverage.tif"))[0], coverage)
    class_map = read(output)[0]
    assert ((class_map == 255) == (coverage == 0)).all()
    both = coverage >= 2
    values = sar[both] / 255
    scores = np.stack([1 - values, np.full_like(values, 0.5), values])
    clear = np.sort(scores, axis=0)[-1] - np.sort(scores, axis=0)[-2] > 1e-3
    np.testing.assert_array_equal(class_map[both][clear], scores.argmax(axis=0)[clear])
    confidence, probabilities = (read(output.with_name(f"map_{name}.tif")) for name in ("confidence", "probabilities"))
    np.testing.assert_allclose(probabilities[:, both], 100 * scores, atol=0.51)
    np.testing.assert_array_equal(confidence[0], np.where(coverage == 0, 255, probabilities.max(axis=0)))
    alone = coverage == 1
    values = rgb[alone] / 255
    np.testing.assert_allclose(probabilities[2][alone], 100 * values, atol=0.51)
    with rasterio.open(output) as file, rasterio.open(pair[0]) as given:
        assert (file.crs, file.transform, file.shape) == (given.crs, given.transform, given.shape)
        assert file.nodata == 255 and file.tags(1)["class_2"] == CLASSES[2]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert json.loads(output.with_suffix(".json").read_text()) == json.loads(json.dumps(report))
    names = ("nothing", "rgb_only", "rgb_and_sar", "sar_only", "cloudy_rgb_and_sar", "cloudy_rgb_only")
    assert {name: entry["pixels"] for name, entry in report["coverage"].items()} == {
        name: (coverage == value).sum() for value, name in enumerate(names)
    }
    assert sum(area["pixels"] for area in report["classes"]) == (coverage > 0).sum()
    assert report["classes"][0]["hectares"] == pytest.approx(0.01 * (class_map == 0).sum(), rel=2e-3)
    assert {len(batch) for batch in predictor.model.batches} == {1, 3}  # four windows a row
    assert {False, True} == {with_sar for batch in predictor.model.batches for with_sar in batch}


def test_where_coverage_says_rgb_only_the_answer_is_that_of_a_run_without_sar(make_cfg, tmp_path):
    torch.manual_seed(0)
    predictor = ScenePredictor(make_cfg(), CLASSES)
    generator = np.random.default_rng(0)
    rgb = write(tmp_path / "rgb.tif", generator.integers(1, 255, (3, 56, 80), dtype=np.uint8), nodata=0)
    values = generator.integers(1, 255, (56, 80), dtype=np.uint8)
    full = write(tmp_path / "full.tif", values, nodata=0)
    values[:, 40:] = values[10:13, 10:20] = 0
    half = write(tmp_path / "half.tif", values, nodata=0)
    probabilities = {}
    options = SceneOptions(window=32, overlap=0.25, batch_size=2, probabilities=True)
    for sar in (None, full, half):
        predictor.segment(rgb, sar, tmp_path / "map.tif", options)
        probabilities[sar] = read(tmp_path / "map_probabilities.tif").astype(int)
    alone = read(tmp_path / "map_coverage.tif")[0] == 1
    np.testing.assert_array_equal(alone, values == 0)
    difference = np.abs(probabilities[half] - probabilities[None])
    # Percent of scores that are equal but for rounding.
    assert difference[:, alone].max() <= 1 and difference[:, alone].mean() < 1e-3
    assert difference[:, ~alone].max() > 1
    # Windows that SAR covers whole are as they were.
    np.testing.assert_array_equal(probabilities[half][:, 32:, :24], probabilities[full][:, 32:, :24])


def test_a_scene_has_one_vocabulary_whatever_other_threads_set(predictor, pair, tmp_path):
    predictor.lock = AnnouncingLock()
    colors = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    other = threading.Thread(
        target=predictor.lock.announce_end,
        args=(lambda: predictor.set_vocabulary(["sea", "sky", "sun"], colors=colors),),
    )
    predictor.model.before = lambda: (other.start(), predictor.lock.met.wait()) if other.ident is None else None
    report = predictor.segment(*pair, tmp_path / "map.tif", SceneOptions(window=40))
    assert [entry["name"] for entry in report["classes"]] == report["settings"]["classes"] == list(CLASSES)
    other.join()
    report = predictor.segment(*pair, tmp_path / "map.tif", SceneOptions(window=40))
    assert [(entry["name"], entry["color"]) for entry in report["classes"]] == [
        ("sea", [1, 2, 3]), ("sky", [4, 5, 6]), ("sun", [7, 8, 9])
    ]  # fmt: skip


def test_a_vocabulary_that_cannot_be_set_leaves_the_one_before(predictor, pair, tmp_path):
    for names, unseen in ((["sea", "sea"], ()), (["sea", "sky", "sun"], ("moon",))):
        with pytest.raises(VocabularyError):
            predictor.set_vocabulary(names, unseen=unseen)
    report = predictor.segment(*pair, tmp_path / "map.tif", SceneOptions(window=40))
    assert [entry["name"] for entry in report["classes"]] == report["settings"]["classes"] == list(CLASSES)


def test_an_area_is_mapped_as_within_the_whole_scene(predictor, pair, tmp_path):
    options = SceneOptions(window=40, overlap=0.25)
    predictor.segment(*pair, tmp_path / "whole.tif", options)
    windows = len(predictor.model.batches)
    west, north = rasterio.warp.transform(UTM, "OGC:CRS84", [500_305, 500_705], [4_999_695, 4_999_095])
    ring = [[west[0], north[0]], [west[1], north[0]], [west[1], north[1]], [west[0], north[1]], [west[0], north[0]]]
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}))
    predictor.segment(*pair, tmp_path / "part.tif", SceneOptions(window=40, overlap=0.25, area=area))
    whole, part = read(tmp_path / "whole.tif")[0], read(tmp_path / "part.tif")[0]
    inside = read(tmp_path / "part_coverage.tif")[0] != 255
    assert inside[35:85, 35:65].all() and not inside[:28].any() and not inside[:, 73:].any()
    np.testing.assert_array_equal(part, np.where(inside, whole, 255))
    assert 0 < len(predictor.model.batches) - windows < windows


def test_an_area_in_a_geodatabase_which_is_a_folder(predictor, pair, tmp_path):
    area = tmp_path / "area.gdb"
    square = shapely.box(500_300, 4_999_100, 500_700, 4_999_700)
    geopandas.GeoSeries([square], crs=UTM).to_file(area, driver="OpenFileGDB", layer="fields")
    options = SceneOptions(window=40, overlap=0.25, area=area, area_layer="fields")
    report = predictor.segment(*pair, tmp_path / "part.tif", options)
    assert predictor.finished_report(*pair, tmp_path / "part.tif", options) == json.loads(json.dumps(report))
    inside = read(tmp_path / "part_coverage.tif")[0] != 255
    assert inside.sum() == 40 * 60


@pytest.mark.parametrize("stop_after", [0, 1, 7, 13, 19])
def test_an_ended_run_goes_on_to_the_same_bytes(predictor, pair, tmp_path, stop_after):
    options = {"window": 40, "overlap": 0.25, "confidence": True}
    predictor.segment(*pair, tmp_path / "whole.tif", SceneOptions(**options))
    total = len(predictor.model.batches)
    predictor.model.batches.clear()
    predictor.model.stop_after = stop_after
    output = tmp_path / "map.tif"
    assert total > stop_after
    with pytest.raises(KeyboardInterrupt):
        predictor.segment(*pair, output, SceneOptions(**options))
    assert not output.exists() and (tmp_path / "map.tif.work").is_dir()
    predictor.model.stop_after = None
    predictor.model.batches.clear()
    predictor.segment(*pair, output, SceneOptions(**options, resume=True))
    assert len(predictor.model.batches) < total or stop_after < 8  # two rows of windows are the least to make again
    for name in ("", "_coverage", "_confidence"):
        assert (tmp_path / f"map{name}.tif").read_bytes() == (tmp_path / f"whole{name}.tif").read_bytes()
    assert not (tmp_path / "map.tif.work").exists()


@pytest.mark.parametrize(("window", "overlap"), [(400, 0.33), (40, 1 / 40), (40, 0.0), (40, 0.9), (150, 0.5)])
def test_windows_of_any_size_and_overlap_give_one_map(predictor, pair, tmp_path, window, overlap):
    sar = write(tmp_path / "full.tif", read(pair[0])[0], nodata=None)
    predictor.segment(pair[0], sar, tmp_path / "map.tif", SceneOptions(window=window, overlap=overlap))
    rgb = read(pair[0])[0]
    probabilities = np.stack([255.0 - rgb, np.full(rgb.shape, 127.5), rgb])
    np.testing.assert_array_equal(read(tmp_path / "map.tif")[0], probabilities.argmax(axis=0))  # SAR is RGB's equal


@pytest.mark.parametrize("reliable", [True, False])
def test_only_a_reliable_shift_is_corrected_and_said_to_be(predictor, pair, tmp_path, monkeypatch, reliable):
    rgb = read(pair[0])
    sar = write(tmp_path / "moved.tif", np.roll(rgb[0], (3, -2), axis=(0, 1)))
    estimate = ShiftEstimate(rows=3.0, columns=-2.0, spread=0.1, windows=4, reliable=reliable)
    monkeypatch.setattr(scene_module, "estimate_shift", lambda windows: estimate)
    report = predictor.segment(pair[0], sar, tmp_path / "map.tif", SceneOptions(window=40, correct_shift=True))
    assert report["shift"]["corrected"] is reliable
    assert report["settings"]["shift"] == ([3.0, -2.0] if reliable else None)
    shown = rgb[0] if reliable else np.roll(rgb[0], (3, -2), axis=(0, 1))
    inner = (slice(5, 95), slice(5, 110))
    scores = np.stack([255.0 - shown, np.full(shown.shape, 127.5), shown])[(slice(None), *inner)]
    assert (read(tmp_path / "map.tif")[0][inner] == scores.argmax(axis=0)).mean() > 0.99


def test_rgb_alone_and_no_place_on_the_ground(predictor, pair, tmp_path):
    rgb = write(tmp_path / "plain.tif", read(pair[0]), transform=None, crs=None)
    report = predictor.segment(rgb, None, tmp_path / "map.tif", SceneOptions(window=64))
    assert report["coverage"]["rgb_and_sar"]["pixels"] == 0 and report["shift"] is None
    assert all(area["hectares"] is None for area in report["classes"])
    assert not any(any(batch) for batch in predictor.model.batches)


def test_what_cannot_be_done_is_one_sentence_and_leaves_no_map(predictor, pair, tmp_path):
    elsewhere = write(tmp_path / "far.tif", read(pair[1])[0], from_origin(600_000, 5_000_000, 10, 10))
    output = tmp_path / "maps" / "map.tif"
    for sar, options, error, message in (
        (elsewhere, {}, DataError, "covers 0% of the scene"),
        (pair[1], {"window": 0}, ConfigError, "window"),
        (pair[1], {"overlap": 1.0}, ConfigError, "overlap"),
        (pair[1], {"window": 40.5}, ConfigError, "window"),
        (pair[1], {"overlap": "a third"}, ConfigError, "overlap"),
        (pair[1], {"batch_size": 0}, ConfigError, "batch size"),
        (pair[1], {"batch_size": 1.5}, ConfigError, "batch size"),
        (pair[1], {"ground_sampling_distance": -3.0}, ConfigError, "sampling distance"),
        (pair[1], {"area": tmp_path / "none.geojson"}, DataError, "none.geojson does not exist"),
        (tmp_path / "none.tif", {}, DataError, "does not exist"),
    ):
        with pytest.raises(error, match=message):
            predictor.segment(pair[0], sar, output, SceneOptions(**{"window": 40, **options}))
        assert not output.exists()
    with pytest.raises(DataError, match=r"ends in \.tif"):
        predictor.segment(*pair, tmp_path / "map.png")


def test_an_unreadable_block_ends_the_run_and_can_be_gone_on_with(predictor, pair, tmp_path):
    sar = read(pair[1])[0]
    path = write(tmp_path / "s.tif", sar, nodata=0, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[2 * len(broken) // 3 : 2 * len(broken) // 3 + 300] = bytes(300)
    path.write_bytes(broken)
    output = tmp_path / "map.tif"
    with pytest.raises(DataError, match=r"s\.tif cannot be read"):
        predictor.segment(pair[0], path, output, SceneOptions(window=40))
    assert not output.exists()


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_scene_whose_batches_memory_does_not_hold(predictor, pair, tmp_path, monkeypatch, fault):
    predictor.segment(*pair, tmp_path / "whole.tif", SceneOptions(window=40, batch_size=4))
    model, sizes = predictor.model, []

    def limited(items):
        sizes.append(len(items))
        if len(items) > 1:
            raise fault
        return model(items)

    limited.needs_sar = limited.bounded_scores = True
    monkeypatch.setattr(predictor, "model", limited)
    predictor.segment(*pair, tmp_path / "halved.tif", SceneOptions(window=40, batch_size=4))
    assert max(sizes) > 1 and sizes.count(1) > 4
    np.testing.assert_array_equal(read(tmp_path / "halved.tif"), read(tmp_path / "whole.tif"))


def test_progress_counts_windows(predictor, pair, tmp_path):
    told = []
    options = SceneOptions(window=40, batch_size=3)
    report = predictor.segment(*pair, tmp_path / "map.tif", options, on_progress=lambda *done: told.append(done))
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done) and done[-1] == report["windows"] and set(totals) == {report["windows"]}
