"""The Processing script, run by QGIS's own program where that is installed, as a user would run it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio

from tests.conftest import ROOT

QGIS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
MM_OVSEG = str(Path(sys.executable).with_name("mm-ovseg"))

pytestmark = pytest.mark.skipif(QGIS is None, reason="qgis_process is not installed")


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The environment of a new QGIS profile that has the script."""
    folder = tmp_path_factory.mktemp("qgis")
    scripts = folder / "profiles/default/processing/scripts"
    scripts.mkdir(parents=True)
    shutil.copy(ROOT / "projects/qgis/mm_ovseg_scene.py", scripts)
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"QGIS_CUSTOM_CONFIG_PATH": str(folder), "QT_QPA_PLATFORM": "offscreen"}
    environment |= {"XDG_RUNTIME_DIR": str(runtime), "MM_OVSEG": MM_OVSEG, "OMP_NUM_THREADS": "1"}
    subprocess.run([QGIS, "plugins", "enable", "processing"], env=environment, capture_output=True, check=True)
    return environment


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A copy of the shipped pair, since QGIS writes statistics beside the images that it opens."""
    folder = tmp_path_factory.mktemp("pair")
    for kind in ("rgb", "sar"):
        shutil.copy(ROOT / f"demo/assets/pair/val/{kind}/00000.tif", folder / f"{kind}.tif")
    return folder


def run(profile, **parameters):
    arguments = [f"{name}={value}" for name, value in parameters.items()]
    command = [QGIS, "run", "script:mm_ovseg_scene", "--", *arguments]
    return subprocess.run(command, env=profile, capture_output=True, text=True, check=False)


def test_it_maps_the_area_of_a_layer_and_gives_qgis_the_results(profile, pair, tmp_path):
    with rasterio.open(pair / "rgb.tif") as file:
        left, bottom, right, top = file.bounds
        crs = file.crs
    middle = (left + right) / 2
    ring = [[left, top], [middle, top], [middle, bottom], [left, bottom], [left, top]]
    area = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    name = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{crs.to_epsg()}"}}
    (tmp_path / "west.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": name, "features": [area]}))
    done = run(
        profile,
        RGB=pair / "rgb.tif",
        SAR=pair / "sar.tif",
        CLASSES="city, road, forest, water",
        CONFIG=ROOT / "configs/quickstart/demo.yaml",
        AREA=tmp_path / "west.geojson",
        OPTIONS="--overlap 0",
        SETTINGS="MODEL.DEVICE cpu",
        OUTPUT=tmp_path / "map.tif",
        POLYGONS=tmp_path / "map.gpkg",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"OUTPUT:\t{tmp_path / 'map.tif'}" in done.stdout
    assert f"POLYGONS:\t{tmp_path / 'map.gpkg'}" in done.stdout
    with rasterio.open(tmp_path / "map.tif") as file:
        classes = file.read(1)
    half = classes.shape[1] // 2
    assert (classes[:, :half] < 4).all() and (classes[:, half:] == 255).all()
    assert (tmp_path / "map.qml").is_file() and (tmp_path / "map.gpkg").is_file()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "No image is given; give RGB, SAR or both."),
        ({"PRODUCT_RGB": "nothing.SAFE"}, "nothing.SAFE does not exist"),
        ({"PRODUCT_RGB": "nothing.SAFE", "PROGRAM": "/no/mm-ovseg"}, "/no/mm-ovseg is not a program"),
        ({"RGB": "rgb.tif", "PRODUCT_RGB": "x.SAFE"}, "RGB is given as a layer and as a product"),
    ],
)
def test_errors_are_one_sentence(profile, pair, tmp_path, parameters, message):
    if "RGB" in parameters:
        parameters = {**parameters, "RGB": pair / parameters["RGB"]}
    config = ROOT / "configs/quickstart/demo.yaml"
    done = run(profile, CLASSES="city", CONFIG=config, OUTPUT=tmp_path / "map.tif", **parameters)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "map.tif").exists()
