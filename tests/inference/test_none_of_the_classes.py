"""Maps in which pixels may be none of the classes, in every file of a scene, through a stub model."""

import json
import threading
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from mm_ovseg.data.palette import NONE_COLOR
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS, Decision
from mm_ovseg.engine import load_config
from mm_ovseg.errors import DataError
from mm_ovseg.inference import scene as scene_module
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from tests.conftest import ROOT

OPTIONS = SceneOptions(window=40, overlap=0.25, confidence=True, probabilities=True)
CLASSES, BACKGROUND = ["dark", "middle"], ["bright"]
SCORES = {20: (0.9, 0.5, 0.1), 100: (0.6, 0.5, 0.4), 230: (0.1, 0.5, 0.9)}  # brightness -> dark, middle, bright


class StubPredictor:
    """Scores by brightness, one for each name of the decision."""

    def __init__(self, cfg, class_names, *, any_format, **options):
        self.lock = threading.RLock()
        self.set_vocabulary(class_names, **options)

    def set_vocabulary(self, class_names, **options):
        self.decision = Decision(class_names, **options)

    def model(self, items):
        return [{"sem_seg": self.scores(item["image"][0])} for item in items]

    def scores(self, brightness):
        table = torch.zeros(256, 3)
        for value, scores in SCORES.items():
            table[value] = torch.tensor(scores)
        return table[brightness.long()].permute(2, 0, 1)[: len(self.decision.names)]

    model.needs_sar = model.bounded_scores = True


@pytest.fixture
def predictor(monkeypatch):
    monkeypatch.setattr(scene_module, "Predictor", StubPredictor)
    cfg = load_config(ROOT / "projects/laptop/configs/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"])
    return ScenePredictor(cfg, CLASSES, background=BACKGROUND)


@pytest.fixture
def rgb(tmp_path):
    """60 x 90 pixels of 10 m: 30 columns of each brightness, a small patch in the last ones, and a row without data."""
    values = np.repeat(np.array([20, 100, 230], np.uint8), 30)[None].repeat(60, axis=0)
    values[20:22, 70:73] = 20
    values[0] = 0
    profile = {"width": 90, "height": 60, "count": 3, "dtype": "uint8", "crs": "EPSG:32633", "nodata": 0}
    with rasterio.open(tmp_path / "rgb.tif", "w", transform=from_origin(5e5, 5e6, 10, 10), **profile) as file:
        file.write(np.stack([values] * 3))
    return tmp_path / "rgb.tif"


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def expected(rgb, *, dark, middle, bright):
    table = np.full(256, NODATA_CLASS, np.uint8)
    table[[20, 100, 230]] = dark, middle, bright
    return table[read(rgb)[0]]


def test_a_background_name_is_none_in_every_file(predictor, rgb, tmp_path):
    output = tmp_path / "map.tif"
    report = predictor.segment(rgb, None, output, SceneOptions(**vars(OPTIONS) | {"vector": tmp_path / "map.gpkg"}))
    class_map = expected(rgb, dark=0, middle=0, bright=NONE_CLASS)
    with rasterio.open(output) as file:
        np.testing.assert_array_equal(file.read(1), class_map)
        assert file.tags(1)["class_254"] == "none" and file.colormap(1)[NONE_CLASS][:3] == NONE_COLOR
        assert file.nodata == NODATA_CLASS
    np.testing.assert_array_equal(
        read(tmp_path / "map_confidence.tif")[0], expected(rgb, dark=90, middle=60, bright=50)
    )
    probabilities = read(tmp_path / "map_probabilities.tif")
    np.testing.assert_array_equal(probabilities[0], expected(rgb, dark=90, middle=60, bright=10))
    np.testing.assert_array_equal(probabilities[1], expected(rgb, dark=50, middle=50, bright=50))
    assert len(probabilities) == len(CLASSES)
    entries = ElementTree.parse(tmp_path / "map.qml").findall(".//paletteEntry")
    assert [(entry.get("value"), entry.get("label")) for entry in entries] == [
        ("0", "dark"), ("1", "middle"), ("254", "none")
    ]  # fmt: skip
    none = report["classes"][-1]
    pixels = int((class_map == NONE_CLASS).sum())
    assert (none["name"], none["value"], none["pixels"]) == ("none", NONE_CLASS, pixels)
    assert none["hectares"] == pytest.approx(0.01 * pixels, rel=2e-3) and none["color"] == list(NONE_COLOR)
    assert [entry["value"] for entry in report["classes"]] == [0, 1, NONE_CLASS]
    polygons = geopandas.read_file(tmp_path / "map.gpkg")
    assert sorted(zip(polygons["class_index"], polygons["class_name"], strict=True)) == [
        (0, "dark"), (0, "dark"), (254, "none")
    ]  # fmt: skip
    assert report == predictor.finished_report(rgb, None, output, OPTIONS)


def test_minimum_scores_by_class(predictor, rgb, tmp_path):
    predictor.set_vocabulary(["dark", "middle", "bright"], min_score={"dark": 0.7})
    predictor.segment(rgb, None, tmp_path / "map.tif", OPTIONS)
    np.testing.assert_array_equal(read(tmp_path / "map.tif")[0], expected(rgb, dark=0, middle=NONE_CLASS, bright=2))


def test_a_report_names_none_where_a_pixel_could_have_been(predictor, rgb, tmp_path):
    predictor.set_vocabulary(["dark", "middle", "bright"], min_score=0.01)
    report = predictor.segment(rgb, None, tmp_path / "map.tif", OPTIONS)
    assert report["classes"][-1]["name"] == "none" and report["classes"][-1]["pixels"] == 0
    predictor.set_vocabulary(["dark", "middle", "bright"])
    report = predictor.segment(rgb, None, tmp_path / "map.tif", OPTIONS)
    assert [entry["name"] for entry in report["classes"]] == ["dark", "middle", "bright"]
    with rasterio.open(tmp_path / "map.tif") as file:
        assert "class_254" not in file.tags(1)


def test_small_patches_of_none_and_in_none_are_merged_but_not_with_no_data(predictor, rgb, tmp_path):
    options = SceneOptions(window=40, vector=tmp_path / "map.gpkg", min_area=0.1)  # 10 pixels; the patch has 6
    predictor.segment(rgb, None, tmp_path / "map.tif", options)
    polygons = geopandas.read_file(tmp_path / "map.gpkg").sort_values("class_index")
    assert list(polygons["class_name"]) == ["dark", "none"]
    assert list(polygons.area / 100) == [59 * 60, 59 * 30]


@pytest.mark.parametrize(
    "changed", [{"background": ["light"]}, {"background": BACKGROUND, "min_score": 0.2}, {"min_score": {"dark": 0.2}}]
)
def test_a_map_made_with_other_minimums_or_background_is_another_map(predictor, rgb, tmp_path, changed, monkeypatch):
    output = tmp_path / "map.tif"
    predictor.segment(rgb, None, output, OPTIONS)
    assert predictor.finished_report(rgb, None, output, OPTIONS) is not None
    monkeypatch.setattr(StubPredictor, "scores", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predictor.segment(rgb, None, tmp_path / "other.tif", OPTIONS)
    monkeypatch.undo()
    predictor.set_vocabulary(CLASSES, **changed)
    assert predictor.finished_report(rgb, None, output, OPTIONS) is None
    with pytest.raises(DataError, match="holds the beginning of another map: .*(background|min_scores)"):
        predictor.segment(rgb, None, tmp_path / "other.tif", SceneOptions(**vars(OPTIONS) | {"resume": True}))
    assert json.loads(output.with_suffix(".json").read_text())["settings"]["background"] == BACKGROUND
