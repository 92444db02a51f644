"""The commands from an installed wheel, in an empty folder, with no checkout in sight."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import rasterio

from tests.conftest import ROOT
from tests.patience import PATIENCE

SOURCES = ("mm_ovseg", "configs", "demo/assets", "setup.py", "pyproject.toml", "MANIFEST.in")


def call(*words, **options):
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, **options}
    done = subprocess.run(list(map(str, words)), check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel is installed to; the requirements are those of the running environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:  # a copy, since setuptools builds in the source's folder
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    before = {path for path in source.rglob("*") if "build" not in path.parts}
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    assert not (source / "mm_ovseg" / "shipped_files").exists() and all(path.exists() for path in before)
    (wheel,) = folder.glob("mm_ovseg-*.whl")
    call(*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel)
    shutil.rmtree(source)
    return folder / "site"


@pytest.fixture
def run(installed, tmp_path):
    """A function ``(*words) -> stdout`` that runs Python, with the installed package, in an empty folder."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def run(*words):
        return call(sys.executable, *words, cwd=tmp_path, env=environment)

    where = run("-c", "import mm_ovseg; print(mm_ovseg.__file__)").strip()
    assert where == str(installed / "mm_ovseg" / "__init__.py")
    return run


def test_help(run, installed):
    printed = run(installed / "bin" / "mm-ovseg", "--help")
    assert "dataset tile" in printed and "segment a large scene" in printed
    assert "--min-covered" in run("-m", "mm_ovseg", "scene", "--help")


def test_a_scene_becomes_a_map(run, installed, tmp_path):
    pair = installed / "mm_ovseg" / "shipped_files" / "demo" / "assets" / "pair" / "val"
    words = ["--rgb", pair / "rgb_clouds" / "00000.tif", "--sar", pair / "sar" / "00000.tif"]
    words += ["--classes", "city,road,forest,water,farmland", "--output", "map.tif"]
    options = ["--opts", "MODEL.WEIGHTS", "quickstart://", "MODEL.DEVICE", "cpu"]
    words = ["--config-file", "configs/quickstart/demo.yaml", *words, *options]
    printed = run(installed / "bin" / "mm-ovseg", "scene", *words)
    assert "| water " in printed and "map.tif." in printed
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.shape == (192, 192)
    report = json.loads((tmp_path / "map.json").read_text())
    assert sum(area["pixels"] for area in report["classes"]) == 192 * 192
