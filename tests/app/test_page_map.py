"""A map's legend at any minimum score, its pixels and its files."""

import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import rasterio

from mm_ovseg.app.map_maker import Question
from mm_ovseg.app.page_map import DOWNLOADS, min_percent
from mm_ovseg.app.scenes import SceneFiles, make_scene
from mm_ovseg.data.palette import NONE_COLOR
from mm_ovseg.shipped import shipped_path
from tests.app.conftest import ignore, never


@pytest.fixture(scope="module")
def page_map(maker, shipped_cfg, tmp_path_factory):
    """A map of the drawn pair with "none"."""
    folder = tmp_path_factory.mktemp("page_map")
    pair = shipped_path("demo/assets/pair/val")
    files = SceneFiles((pair / "rgb_clouds/00000.tif",), (pair / "sar/00000.tif",), name="Under clouds")
    callbacks = {"progress": ignore, "should_stop": never}
    scene = make_scene(files, shipped_cfg, folder / "scene", max_pixels=1e6, **callbacks)
    question = Question.typed(scene, "forest, water", "city; farmland", "both", None)
    return maker.make_map(scene, question, folder / "map", features=folder / "features", **callbacks)


def read(page_map):
    with rasterio.open(page_map.geotiff) as classes, rasterio.open(page_map.confidence) as confidence:
        return classes.read(1), confidence.read(1)


@pytest.mark.parametrize("minimum", [0, 40, 101])
def test_the_legend_counts_what_the_tiles_show(page_map, minimum):
    classes, percent = read(page_map)
    shown = np.where((percent < minimum) & (classes != 255), 254, classes)
    score = np.where((shown == 254) & (classes != 254), 100 - percent.astype(int), percent)
    legend = page_map.legend(minimum)
    assert [entry["name"] for entry in legend] == ["forest", "water", "none"]
    assert sum(entry["share"] for entry in legend) == pytest.approx(1)
    for entry in legend:
        of_class = shown == entry["value"]
        assert entry["pixels"] == of_class.sum() and entry["share"] == pytest.approx(of_class.mean())
        assert entry["hectares"] == pytest.approx(of_class.sum() * 4 / 10_000, rel=0.005)  # pixels of 2 m
        assert entry["confidence"] == (pytest.approx(score[of_class].mean() / 100) if of_class.any() else None)
    if minimum == 40:
        assert legend[2]["pixels"] > 0 and legend[2] != page_map.classes[2]


def test_a_minimum_adds_none_to_a_legend_without_it(page_map):
    plain = replace(page_map, entries=page_map.entries[:2])
    assert [entry["name"] for entry in plain.legend(0)] == ["forest", "water"]
    assert [entry["name"] for entry in plain.legend(1)] == ["forest", "water", "none"]


def test_minimums_are_whole_percents():
    assert [min_percent(score) for score in (0, 0.29, 0.57, 0.401, 1)] == [0, 29, 57, 41, 100]


def test_a_point_tells_all_scores(page_map):
    classes, percent = read(page_map)
    [row, column] = np.argwhere(classes == 0)[5]
    point = page_map.point(int(row), int(column))
    assert (point["name"], point["value"], point["color"]) == ("forest", 0, page_map.classes[0]["color"])
    assert [score["name"] for score in point["scores"]] == ["forest", "water"]
    assert point["scores"][0]["score"] == percent[row, column] / 100 >= point["scores"][1]["score"]
    assert point["coverage"] == "RGB and SAR" and point["coordinates"].startswith("EPSG:32652 ")
    [row, column] = np.argwhere(classes == 254)[0]
    assert page_map.point(int(row), int(column))["name"] == "none"
    for outside in ((-1, 0), (0, -1), (192, 0), (0, 192)):
        assert page_map.point(*outside) is None


def test_a_point_below_the_minimum_is_none_as_it_is_drawn(page_map):
    classes, percent = read(page_map)
    row, column = map(int, np.argwhere(classes == 0)[5])
    score = int(percent[row, column])
    plain = page_map.point(row, column)
    assert plain["below_minimum"] is None and page_map.point(row, column, score) == plain
    left_out = page_map.point(row, column, score + 1)
    none = {"name": "none", "color": list(NONE_COLOR), "value": 254, "below_minimum": "forest"}
    assert left_out == {**plain, **none}
    alone = replace(page_map, has_scores=False).point(row, column, score + 1)
    assert alone == {**left_out, "scores": [{"name": "forest", "score": score / 100}]}
    row, column = map(int, np.argwhere(classes == 254)[0])
    assert page_map.point(row, column, 101) == page_map.point(row, column)


def test_the_files(page_map):
    page_map.make_polygons()
    for kind, ending in DOWNLOADS.items():
        path, name = page_map.download(kind)
        assert path.is_file() and name == f"Under clouds_map{ending}"
    path, _ = page_map.download("geopackage")
    with sqlite3.connect(path) as database:
        names = database.execute("SELECT DISTINCT class_name FROM map ORDER BY 1").fetchall()
    assert names == [("forest",), ("none",), ("water",)]
    before = path.stat().st_mtime_ns
    page_map.make_polygons()
    assert path.stat().st_mtime_ns == before


def test_the_report_tells_nothing_of_the_server(page_map):
    path, _ = page_map.download("report")
    text = path.read_text(encoding="utf-8")
    report = json.loads(text)
    assert report["classes"][0]["name"] == "forest" and report["decision"]["background"] == ["city", "farmland"]
    assert report["images"] == {"rgb": ["00000.tif"], "sar": ["00000.tif"]} and report["grid"]["width"] == 192
    assert str(page_map.folder.parent) not in text and "demo/assets" not in text
