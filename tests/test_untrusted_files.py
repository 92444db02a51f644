"""What files that others made may do to a dataset, to a run and to its outputs; SECURITY.md lists it."""

import json
import re
import sqlite3
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import torch
from detectron2.data import DatasetCatalog
from rasterio.transform import from_origin

from mm_ovseg.checkpoint.weights_file import load_weights_file
from mm_ovseg.data import register_datasets_from_file, register_rgb_sar_dataset
from mm_ovseg.engine import load_config
from mm_ovseg.errors import CheckpointError, ConfigError, DataError, MMOVSegError, VocabularyError
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from mm_ovseg.vocabulary import parse_class_names, validate_class_names

HOSTILE = (
    "'); DROP TABLE gpkg_contents; --",
    '<script>alert("1")</script>',
    "\"}]; 'x': [{&amp;]]>",
    "{name} %s ${HOME} \\",
    "=1+1",
    "../../etc/passwd",
)


@pytest.fixture
def dataset_folder(tmp_path):
    for kind in ("rgb", "sar"):
        write(tmp_path / "data" / kind / "a.png", np.ones((3, 8, 8), np.uint8))
    names = set(DatasetCatalog)
    yield tmp_path / "data"
    for name in set(DatasetCatalog) - names:
        DatasetCatalog.remove(name)


def write(path, bands, **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    with rasterio.open(
        path, "w", driver=driver, width=width, height=height, count=count, dtype="uint8", **profile
    ) as f:
        f.write(bands)
    return path


class Opens:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["a.pth", "a.pkl", "a.bin", "a"])
def test_weights_run_no_code(tmp_path, name):
    trace = tmp_path / "pwned"
    torch.save({"model": Opens(trace)}, tmp_path / name)
    with pytest.raises(CheckpointError, match="refused for safety"):
        load_weights_file(tmp_path / name)
    assert not trace.exists()


def test_configs_run_no_code_and_fetch_nothing(tmp_path):
    trace = tmp_path / "pwned"
    config = tmp_path / "config.yaml"
    for text in (
        f"SOLVER: !!python/object/apply:os.system ['touch {trace}']",
        "_BASE_: https://127.0.0.1:9/config.yaml",
        "_BASE_: config.yaml",
        "SOLVER: {BASE_LR: '" + "(" * 50_000 + "'}",
        "SOLVER: " + "[" * 5000,
    ):
        config.write_text(text)
        with pytest.raises(ConfigError, match=r"config\.yaml"):
            load_config(config)
    assert not trace.exists()


@pytest.mark.parametrize("pattern", ["..", "../rgb", "rgb/../../rgb", "/etc", "rgb/../../x_*.png", "sub/../..", "a\0b"])
@pytest.mark.parametrize("kind", ["rgb", "sar", "labels"])
def test_patterns_that_leave_the_root(dataset_folder, pattern, kind):
    places = {"rgb": "rgb", "sar": "sar"} | {kind: pattern}
    with pytest.raises(DataError, match=f"{kind}=.*which leaves its root"):
        register_rgb_sar_dataset("hostile", root=dataset_folder, classes=["a"], **places)
    assert "hostile" not in DatasetCatalog
    register_rgb_sar_dataset("kind", root=dataset_folder, rgb="sar/../rgb", sar="./sar")
    assert len(DatasetCatalog.get("kind")) == 1


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_links_that_leave_the_root(tmp_path, dataset_folder, monkeypatch, linked):
    outside = write(tmp_path / "outside" / "b.png", np.ones((3, 8, 8), np.uint8))
    (dataset_folder / "sar" / "b.png").write_bytes(outside.read_bytes())
    if linked == "file":
        (dataset_folder / "rgb" / "b.png").symlink_to(outside)
        write(tmp_path / "outside" / "a.png", np.ones((3, 8, 8), np.uint8))
        places = {"rgb": "rgb"}
    else:
        write(tmp_path / "outside" / "a.png", np.ones((3, 8, 8), np.uint8))
        (dataset_folder / "linked").symlink_to(tmp_path / "outside")
        places = {"rgb": "linked"}
    register_rgb_sar_dataset("links", root=dataset_folder, sar="sar", **places)
    with pytest.raises(DataError, match=r"is a symbolic link to .*outside.*MM_OVSEG_ALLOW_LINKS=1"):
        DatasetCatalog.get("links")
    monkeypatch.setenv("MM_OVSEG_ALLOW_LINKS", "1")
    assert len(DatasetCatalog.get("links")) == 2


def test_links_within_the_root_and_to_the_root(tmp_path, dataset_folder):
    (dataset_folder / "copy").symlink_to(dataset_folder / "rgb")
    (tmp_path / "root").symlink_to(dataset_folder)
    register_rgb_sar_dataset("inner", root=tmp_path / "root", rgb="copy", sar="sar")
    assert len(DatasetCatalog.get("inner")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "datasets: !!python/object/apply:os.system ['true']",
        "a: &a [x, x]\nb: &b [*a, *a]\ndatasets: {d: {root: x, rgb: r, sar: s, classes: &c [*c]}}",
        "datasets: " + "{a: " * 5000,
        "datasets: {d: {root: x, rgb: r, sar: s, classes: !!int ''}}",
    ],
)
def test_dataset_files_that_are_more_than_data(tmp_path, text):
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"d\.yaml is malformed"):
        register_datasets_from_file(tmp_path / "d.yaml")


@pytest.mark.parametrize("name", ["a\0b", "bell\a", "\x1b[31mred", "half \udc80", "\x7f"])
def test_names_that_are_no_text(name):
    for read in (lambda: validate_class_names(["water", name]), lambda: parse_class_names(f"water,{name}")):
        with pytest.raises(VocabularyError, match="contains a control character"):
            read()


def test_hostile_names_in_every_output_of_a_scene(tmp_path, make_cfg):
    names = list(HOSTILE)
    stem = "x'; DROP TABLE y; --<b>\"&{}%s"
    grid = {"crs": "EPSG:32652", "transform": from_origin(500000, 4000000, 1, 1)}
    values = np.random.default_rng(0).integers(0, 256, (3, 40, 40), dtype=np.uint8)
    rgb = write(tmp_path / f"{stem}.rgb.tif", values, **grid)
    output, vector = tmp_path / "out" / f"{stem}.tif", tmp_path / "out" / f"{stem}.gpkg"
    predictor = ScenePredictor(make_cfg(), names)
    options = SceneOptions(vector=vector, probabilities=True, deliver=("stac", "table", "layers"))
    predictor.segment(rgb, None, output, options)

    report = json.loads((tmp_path / "out" / f"{stem}.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in report["classes"]] == names and report["map"] == output.name
    entries = ElementTree.parse(output.with_suffix(".qml")).findall(".//paletteEntry")
    assert [entry.get("label") for entry in entries] == names
    with rasterio.open(output) as file:
        assert [file.tags(1)[f"class_{index}"] for index in range(len(names))] == names
    fields = [row.findall("F") for row in ElementTree.parse(f"{output}.aux.xml").findall(".//Row")]
    assert [row[2].text for row in fields] == names
    item = json.loads((tmp_path / "out" / f"{stem}_stac.json").read_text(encoding="utf-8"))
    classes = item["assets"]["map"]["classification:classes"]
    assert [entry["title"] for entry in classes[:-1]] == names
    assert all(re.fullmatch("[0-9A-Za-z_-]+", entry["name"]) for entry in classes)
    with sqlite3.connect(vector) as database:
        (table,) = database.execute("SELECT table_name FROM gpkg_contents WHERE table_name LIKE '%DROP%'").fetchone()
        assert table == stem
        quoted = table.replace('"', '""')
        found = {name for (name,) in database.execute(f'SELECT DISTINCT class_name FROM "{quoted}"')}
    with rasterio.open(output) as file:
        assert found == {names[index] for index in np.unique(file.read(1)) if index != 255}


@pytest.mark.parametrize("output", ["a\udc80.tif", "a\nb.tif", "a\0.tif"])
def test_output_names_that_are_no_text(tmp_path, make_cfg, output):
    rgb = write(tmp_path / "rgb.tif", np.ones((3, 8, 8), np.uint8))
    predictor = ScenePredictor(make_cfg(), ["water"])
    with pytest.raises(DataError, match="is not valid text"):
        predictor.segment(rgb, None, tmp_path / output)
    with pytest.raises(DataError, match="not valid text"):
        predictor.segment(rgb, None, tmp_path / "a.tif", SceneOptions(vector=tmp_path / f"{output}.gpkg"))
    assert list(tmp_path.iterdir()) == [rgb]


@pytest.mark.parametrize(
    "text",
    [
        '{"features": 5}',
        "[" * 50_000,
        '{"type": "Polygon"}',
        '{"type": "Polygon", "coordinates": 7}',
        '{"type": "Polygon", "coordinates": [[[0, 0], [1, NaN], [1, 1], [0, 0]]]}',
    ],
)
def test_hostile_areas(tmp_path, make_cfg, text):
    grid = {"crs": "EPSG:32652", "transform": from_origin(500000, 4000000, 1, 1)}
    rgb = write(tmp_path / "rgb.tif", np.ones((3, 8, 8), np.uint8), **grid)
    (tmp_path / "area.geojson").write_text(text)
    predictor = ScenePredictor(make_cfg(), ["water"])
    with pytest.raises(MMOVSegError, match=r"area\.geojson"):
        predictor.segment(rgb, None, tmp_path / "a.tif", SceneOptions(area=tmp_path / "area.geojson"))
