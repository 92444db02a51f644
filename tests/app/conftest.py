"""The small model of the drawn world, pairs to map with it, and the page in this process."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from mm_ovseg.app.map_maker import MapMaker
from mm_ovseg.app.scenes import SceneFiles, make_scene
from mm_ovseg.engine import load_config
from mm_ovseg.shipped import shipped_path

PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}


def ignore(*_):
    """Progress that nobody wants."""


def never():
    """Never stop."""
    return False


@pytest.fixture(scope="session")
def shipped_cfg():
    return load_config(shipped_path("configs/quickstart/demo.yaml"), ["MODEL.DEVICE", "cpu"])


@pytest.fixture(scope="session")
def maker(shipped_cfg):
    return MapMaker(shipped_cfg)


@pytest.fixture
def write_image(tmp_path):
    """A function ``(name, height, width, bands) -> path`` that writes noise; a GeoTIFF of 10 m pixels by its suffix."""

    def write(name, height=64, width=96, bands=3, image=None, **place):
        path = tmp_path / name
        if image is None:
            image = np.random.default_rng(0).integers(1, 255, (bands, height, width), dtype=np.uint8)
        profile = dict(zip(("count", "height", "width"), image.shape, strict=True), dtype=image.dtype)
        driver = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}[path.suffix]
        place = (place or PLACE) if driver == "GTiff" else {}
        with rasterio.open(path, "w", driver=driver, **profile, **place) as file:
            file.write(image)
        return path

    return write


@pytest.fixture
def open_scene(shipped_cfg, tmp_path):
    """A function ``(rgb, sar) -> Scene`` of one file each, or None."""
    count = iter(range(1000))

    def open_files(rgb, sar=None, cfg=shipped_cfg, max_pixels=100_000, **callbacks):
        folder = tmp_path / f"scene_{next(count)}"
        folder.mkdir()
        files = SceneFiles(*(None if path is None else (path,) for path in (rgb, sar)), name="north")
        return make_scene(
            files, cfg, folder, **{"max_pixels": max_pixels, "progress": ignore, "should_stop": never, **callbacks}
        )

    return open_files
