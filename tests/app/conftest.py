"""The small model that comes with the source, and pairs to map with it."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from mm_ovseg.app.map_maker import MapMaker
from mm_ovseg.app.shipped_pairs import CONFIG, shipped_pairs
from mm_ovseg.engine import load_config


@pytest.fixture(scope="session")
def shipped_cfg():
    return load_config(CONFIG, ["MODEL.DEVICE", "cpu"])


@pytest.fixture(scope="session")
def maker(shipped_cfg, tmp_path_factory):
    return MapMaker(shipped_cfg, tmp_path_factory.mktemp("maps"), max_pixels=100_000)


@pytest.fixture(scope="session")
def cloudy_pair(shipped_cfg):
    return shipped_pairs(shipped_cfg)["Under clouds"]


@pytest.fixture
def write_image(tmp_path):
    """A function ``(name, height, width, bands) -> path`` that writes noise; a GeoTIFF of 10 m pixels by its suffix."""

    def write(name, height=64, width=96, bands=3):
        path = tmp_path / name
        place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
        profile = {"height": height, "width": width, "count": bands, "dtype": "uint8"}
        image = np.random.default_rng(0).integers(1, 255, (bands, height, width), dtype=np.uint8)
        driver = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}[path.suffix]
        with rasterio.open(path, "w", driver=driver, **profile, **(place if driver == "GTiff" else {})) as file:
            file.write(image)
        return path

    return write
