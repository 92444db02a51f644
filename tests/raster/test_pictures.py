import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.raster import Grid, read_raster_info
from mm_ovseg.raster.pictures import write_picture

PLACE = Grid(9, 6, CRS.from_epsg(32652), Affine(10, 0, 500_000, 0, -10, 4_000_000))
PIXELS = np.repeat(np.indices((6, 9)).sum(axis=0, keepdims=True) * 15, 3, axis=0).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_a_picture_lies_where_it_is_written_to(tmp_path, suffix):
    path = tmp_path / "new" / f"a{suffix}"
    write_picture(path, PIXELS, PLACE, nodata=7)
    info = read_raster_info(path)
    assert info.grid == PLACE and info.nodata == (7,) * 3
    with rasterio.open(path) as file:
        assert np.abs(file.read().astype(int) - PIXELS).max() <= (0 if suffix == ".png" else 15)


def test_a_picture_that_replaces_another_has_nothing_of_it(tmp_path):
    path = tmp_path / "a.png"
    write_picture(path, PIXELS, PLACE, nodata=7)
    write_picture(path, PIXELS[:1], Grid(9, 6))
    info = read_raster_info(path)
    assert info.grid == Grid(9, 6) and info.nodata == (None,)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
