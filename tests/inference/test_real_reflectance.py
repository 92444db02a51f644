"""A real Sentinel-2 image gives the same map from its reflectance as from a rendering of it in 8 bits."""

import numpy as np
import pytest
import rasterio

from mm_ovseg.engine import load_config
from mm_ovseg.inference import Predictor
from mm_ovseg.raster import read_rgb
from mm_ovseg.raster.rgb import REFLECTANCE_RANGE
from tests.conftest import ROOT

REAL = ROOT.parent / "shared/realdata/terramind"
BANDS = (4, 3, 2)

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/realdata")


@pytest.fixture(scope="module")
def predictor():
    cfg = load_config(ROOT / "configs/quickstart/demo.yaml", ["MODEL.DEVICE", "cpu"], needs_datasets=False)
    return Predictor(cfg, ["city", "road", "forest", "water", "farmland"])


def test_the_curve_is_close_to_a_rendering_by_others(predictor):
    """The rendering of this site maps about 0 to 0.4 to 0..255; that of the other is stretched to its own values."""
    numbers = tuple(10_000 * value for value in REFLECTANCE_RANGE)
    image, _ = read_rgb(REAL / "s2l2a_282D_485L_3_3.tif", bands=BANDS, value_range=numbers)
    rendered, _ = read_rgb(REAL / "rgb_282D_485L_3_3.tif")
    same = predictor(image, None).class_map == predictor(rendered, None).class_map
    assert same.mean() > 0.95


@pytest.mark.parametrize("site", ["282D_485L_3_3", "433D_629L_3_1"])
def test_our_own_rendering_gives_the_same_map(predictor, site, tmp_path):
    """As GeoTIFF with a declared unit, scale and offset, and as its 8 bits."""
    with rasterio.open(REAL / f"s2l2a_{site}.tif") as file:
        profile, values = file.profile, file.read(BANDS)
    with rasterio.open(tmp_path / "declared.tif", "w", **{**profile, "count": 3, "dtype": "uint16"}) as file:
        file.write((values + 1000).astype(np.uint16))
        file.scales, file.offsets, file.units = (1e-4,) * 3, (-0.1,) * 3, ("reflectance",) * 3
    image, _ = read_rgb(tmp_path / "declared.tif")
    with rasterio.open(tmp_path / "eight.tif", "w", **{**profile, "count": 3, "dtype": "uint8"}) as file:
        file.write(image.transpose(2, 0, 1))
    maps = [predictor(tmp_path / name, None).class_map for name in ("declared.tif", "eight.tif")]
    np.testing.assert_array_equal(*maps)
