import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, read_raster_info, read_rgb
from mm_ovseg.raster.pictures import write_picture

GRID = Grid(50, 40, CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000))


@pytest.mark.parametrize("name, tolerance", [("a.png", 0), ("a.PNG", 0), ("a.jpg", 12), ("a.jpeg", 12)])
def test_pixels_and_place_come_back(tmp_path, name, tolerance):
    rows, columns = np.mgrid[:40, :50]
    bands = np.stack([rows * 5, columns * 4, rows + columns + 50]).astype(np.uint8)
    write_picture(tmp_path / "new" / name, bands, GRID)
    image, valid = read_rgb(tmp_path / "new" / name)
    np.testing.assert_allclose(image.transpose(2, 0, 1).astype(int), bands, atol=tolerance)
    assert valid.all() and read_raster_info(tmp_path / "new" / name).grid == GRID
    assert {path.name for path in (tmp_path / "new").iterdir()} == {name, f"{name}.aux.xml"}


def test_a_nodata_value_and_alpha(tmp_path):
    bands = np.full((4, 40, 50), 9, np.uint8)
    bands[:, :5] = 0
    write_picture(tmp_path / "nodata.png", bands[:3], GRID, nodata=0)
    write_picture(tmp_path / "alpha.png", bands, GRID)
    for name in ("nodata.png", "alpha.png"):
        _, valid = read_rgb(tmp_path / name)
        assert not valid[:5].any() and valid[5:].all()


@pytest.mark.parametrize("suffix, count", [(".png", 1), (".png", 3), (".jpg", 3)])
def test_a_mask(tmp_path, suffix, count):
    path, known = tmp_path / f"a{suffix}", np.random.default_rng(0).random((40, 50)) > 0.4
    write_picture(path, np.full((count, 40, 50), 90, np.uint8), GRID, valid=known)
    np.testing.assert_array_equal(read_rgb(path)[1], known)
    write_picture(path, np.full((count, 40, 50), 90, np.uint8), GRID)
    assert read_rgb(path)[1].all()


def test_an_image_without_place_has_no_file_beside_it(tmp_path):
    write_picture(tmp_path / "a.png", np.zeros((3, 4, 4), np.uint8), Grid(4, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_one_that_is_replaced_takes_its_place_with_it(tmp_path):
    """What lay beside the old image would say where the new one lies."""
    write_picture(tmp_path / "a.png", np.zeros((3, 40, 50), np.uint8), GRID, nodata=0)
    write_picture(tmp_path / "a.png", np.zeros((3, 4, 4), np.uint8), Grid(4, 4))
    assert read_raster_info(tmp_path / "a.png").grid == Grid(4, 4) and read_rgb(tmp_path / "a.png")[1].all()


def test_what_fails_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"a\.png cannot be written"):
        write_picture(tmp_path / "file" / "a.png", np.zeros((3, 4, 4), np.uint8), GRID)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
