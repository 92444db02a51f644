"""Landsat's QA_PIXEL as a cloud mask; other masks are tested with scenes (tests/inference/test_scene_coverage.py)."""

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.data.cloud_mask import CloudMask, check_cloud_values
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import Grid, write_geotiff

GRID = Grid(6, 5, CRS.from_epsg(32632), Affine(30, 0, 600_015, 0, -30, 5_100_015))
CLEAR, WATER, SNOW = 21824, 21952, 30048
CLOUDY = (22280, 23888, 54596, 21762, 55052)  # cloud, shadow, cirrus, dilated, cloud and cirrus
FILL = 1


def mask_of(tmp_path, values, **options):
    """The clouds of a scene by QA_PIXEL values (5, 6)."""
    write_geotiff(tmp_path / "rgb.tif", np.ones((3, *GRID.shape), np.uint8), GRID)
    write_geotiff(tmp_path / "qa.tif", np.asarray(values)[np.newaxis], GRID, **options)
    with SceneSource(tmp_path / "rgb.tif", None) as scene, CloudMask(tmp_path / "qa.tif", scene, "qa_pixel") as mask:
        assert not mask.concerns()
        return mask.read(0, 0, *GRID.shape)


@pytest.mark.parametrize("options", [{}, {"nodata": FILL}])
def test_the_bits_of_cloud_shadow_and_cirrus_count(tmp_path, options):
    values = np.resize(np.array([FILL, CLEAR, WATER, SNOW, *CLOUDY], np.uint16), GRID.shape)
    np.testing.assert_array_equal(mask_of(tmp_path, values, **options), np.isin(values, CLOUDY))


def test_a_clear_scene_gives_no_warning(tmp_path):
    assert not mask_of(tmp_path, np.full(GRID.shape, CLEAR, np.uint16)).any()


@pytest.mark.parametrize(("value", "dtype"), [(0, np.uint16), (9, np.uint8), (-1, np.int16), (70_000, np.int32)])
def test_other_masks_are_refused(tmp_path, value, dtype):
    values = np.full(GRID.shape, 1, dtype)
    values[0, 0] = value
    with pytest.raises(DataError, match=rf"has the value {value}, which Landsat's QA_PIXEL"):
        mask_of(tmp_path, values)


def test_names_of_values(tmp_path):
    for values in (None, "scl", "qa_pixel", (1, 2)):
        check_cloud_values(values)
    for values in ("qa", (), (1.5,)):
        with pytest.raises(ConfigError, match="give whole numbers, 'scl' for .*, or 'qa_pixel' for"):
            check_cloud_values(values)
