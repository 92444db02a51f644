"""`mm-ovseg scene --stac` and `mm-ovseg prepare --stac`: from a catalogue on a web server to a map of an area."""

import json

import numpy as np
import pytest
import rasterio

from tests.conftest import ROOT, run_cli
from tests.products.stac_catalogue import CORNER, sentinel1_item, sentinel2_item, write_area, write_catalogue

CONFIG = ROOT / "configs/quickstart/demo.yaml"


@pytest.fixture
def catalogue(server):
    items = [
        sentinel2_item(server.folder, "clear", acquired="2023-06-15T10:00:00Z", clouds=3),
        sentinel2_item(server.folder, "cloudy", acquired="2023-06-25T10:00:00Z", clouds=90),
        sentinel1_item(server.folder, "radar", acquired="2023-06-17T17:00:00Z"),
    ]
    write_catalogue(server.folder, items)
    return f"{server.address}/catalog.json"


@pytest.fixture
def area(tmp_path):
    return write_area(tmp_path / "area.geojson", CORNER[0] + 500, CORNER[1] - 300, CORNER[0] + 1300, CORNER[1] - 1200)


def words(catalogue, area, output):
    return ("--stac", catalogue, "--aoi", area, "--date", "2023-06", "--output", output)


def map_words(catalogue, area, output):
    model = ("--config-file", CONFIG, "--classes", "water, forest", "--quiet", "--opts", "MODEL.DEVICE", "cpu")
    return (*words(catalogue, area, output), *model)


def test_an_area_of_a_catalogue_becomes_a_map(server, catalogue, area, tmp_path):
    run_cli("scene", *map_words(catalogue, area, tmp_path / "map.tif"))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.shape == (248, 258) and (file.bounds.left, file.bounds.top) == CORNER
        classes = file.read(1)
    assert set(np.unique(classes[30:120, 50:130])) <= {0, 1} and (classes != 255).sum() == 90 * 80
    report = json.loads((tmp_path / "map.json").read_text())
    assert report["images"]["rgb"]["ids"] == ["clear"] and report["images"]["sar"]["ids"] == ["radar"]
    assert report["images"]["sar"]["acquired"] == ["2023-06-17T17:00:00+00:00"]
    before, first = len(server.asked), (tmp_path / "map.tif").read_bytes()
    run_cli("scene", *map_words(catalogue, area, tmp_path / "map.tif"))
    assert len(server.asked) == before and (tmp_path / "map.tif").read_bytes() == first


def test_an_address_that_dies_is_one_sentence_and_the_same_command_goes_on(server, catalogue, area, tmp_path, capsys):
    images = {path for path in server.folder.rglob("*.tif") if "radar" in path.name or "radar" in str(path.parent)}
    assert images
    for path in images:
        server.stops_after[f"/{path.relative_to(server.folder)}"] = 1
    with pytest.raises(SystemExit) as failure:
        run_cli("scene", *map_words(catalogue, area, tmp_path / "map.tif"))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert failure.value.code == 2 and error.startswith("error: ") and "503" in error and "same command" in error
    assert not (tmp_path / "map.tif").exists()
    server.stops_after.clear()
    run_cli("scene", *map_words(catalogue, area, tmp_path / "map.tif"))
    run_cli("scene", *map_words(catalogue, area, tmp_path / "other.tif"))
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "other.tif").read_bytes()


def test_prepare_writes_the_images_of_the_same_choice(catalogue, area, tmp_path, capsys):
    run_cli("prepare", *words(catalogue, area, tmp_path / "images"))
    assert "clear" in (out := capsys.readouterr().out) and "radar" in out and "clouds in" in out
    with rasterio.open(tmp_path / "images" / "rgb.vrt") as file:
        assert file.shape == (248, 258) and file.units == ("reflectance",) * 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rgb", "image.tif", "--stac", "catalog.json"), "--stac finds the images"),
        (("--rgb", "image.tif", "--date", "2023"), "belong to --stac"),
        (("--stac", "catalog.json"), "catalog.json cannot be read"),
    ],
)
def test_options_that_contradict(tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as failure:
        run_cli("scene", *more, "--output", tmp_path / "map.tif", "--config-file", CONFIG, "--classes", "water")
    assert failure.value.code == 2 and message in capsys.readouterr().err
