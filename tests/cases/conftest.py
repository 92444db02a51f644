import json
import logging

import pytest
import rasterio
from detectron2.data import DatasetCatalog

from demo import demo
from mm_ovseg.inference.pairs import INPUT_NAME
from tests.cases.rasters import CONFIG, NAMES, RGB, SAR, write
from tests.conftest import run_cli


@pytest.fixture
def pair(tmp_path):
    return write(tmp_path / "rgb.tif", RGB), write(tmp_path / "sar.tif", SAR)


@pytest.fixture
def logged(caplog):
    """A function that returns what was logged since it was called last, whether or not a command set up its own log."""
    logger = logging.getLogger("mm_ovseg")
    logger.addHandler(caplog.handler)

    def take():
        text = caplog.text
        caplog.clear()
        return text

    yield take
    logger.removeHandler(caplog.handler)


@pytest.fixture
def segment(tmp_path, capsys):
    """A function ``(rgb, sar, *words, opts, code) -> (map, report)``, or where code is not 0 stderr's last line."""

    def run(rgb, sar=None, *more, opts=(), code=0):
        output = tmp_path / f"map_{len(list(tmp_path.iterdir()))}.tif"
        rgb = rgb if isinstance(rgb, list) else [rgb]
        words = ["--config-file", CONFIG, "--rgb", *rgb, *(("--sar", sar) if sar else ()), "--classes", NAMES]
        words += [
            "--output",
            output,
            "--quiet",
            *more,
            "--opts",
            "MODEL.DEVICE",
            "cpu",
            "MODEL.WEIGHTS",
            "quickstart://",
        ]
        words += opts
        if code:
            with pytest.raises(SystemExit) as stop:
                run_cli("scene", *words)
            assert stop.value.code == code and not output.exists()
            return capsys.readouterr().err.strip().splitlines()[-1]
        run_cli("scene", *words)
        with rasterio.open(output) as file:
            return file.read(1), json.loads(output.with_suffix(".json").read_text())

    return run


@pytest.fixture
def run_demo(tmp_path):
    """A function ``(rgb, sar, *words) -> map`` by demo/demo.py."""

    def run(rgb, sar, *more, opts=()):
        output = tmp_path / f"demo_{len(list(tmp_path.iterdir()))}"
        words = ["--config-file", CONFIG, "--input", rgb, "--sar", sar, "--classes", NAMES, "--output", output, *more]
        words += ["--opts", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "quickstart://", *opts]
        try:
            demo.main([str(word) for word in words])
        finally:
            if INPUT_NAME in DatasetCatalog:
                DatasetCatalog.remove(INPUT_NAME)
        with rasterio.open(next(output.glob("*_map.tif"))) as file:
            return file.read(1)

    return run
