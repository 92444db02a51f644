import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, write_geotiff
from tests.conftest import no_warnings

UTM = CRS.from_epsg(32633)
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def test_everything_that_is_given_is_in_the_file(tmp_path):
    path = tmp_path / "new" / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8)
    valid = np.random.default_rng(1).random((40, 50)) > 0.3
    write_geotiff(
        path,
        pixels,
        Grid(50, 40, UTM, PLACE),
        nodata=7,
        valid=valid,
        meanings=RGB,
        descriptions=("a", "b", "c"),
        scales=(1, 2, 3),
        offsets=(0, 0.5, -1),
        tags={"model": "mm_ovseg"},
        band_tags={"class_0": "city"},
    )
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), pixels)
        np.testing.assert_array_equal(file.read_masks(1) > 0, valid)
        assert file.crs == UTM and file.transform == PLACE and file.nodata == 7
        assert file.colorinterp == RGB and file.descriptions == ("a", "b", "c")
        assert file.scales == (1, 2, 3) and file.offsets == (0, 0.5, -1)
        assert file.tags()["model"] == "mm_ovseg" and file.tags(1)["class_0"] == "city"
        assert file.compression.name == "deflate"
    assert [file.name for file in path.parent.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("height, width", [(600, 700), (1300, 513), (40, 700)])
def test_parts_from_the_first_row_to_the_last(tmp_path, height, width):
    pixels = np.random.default_rng(0).normal(size=(2, height, width)).astype(np.float32)
    starts = range(0, height, 256)
    parts = (pixels[:, start : start + 256] for start in starts)
    write_geotiff(tmp_path / "a.tif", parts, Grid(width, height, UTM, PLACE), bands=2, dtype="float32")
    write_geotiff(tmp_path / "b.tif", pixels, Grid(width, height, UTM, PLACE))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), pixels)
        assert file.block_shapes == [(512, 512)] * 2


@no_warnings
def test_colours_of_values_and_no_georeference(tmp_path):
    write_geotiff(tmp_path / "a.tif", np.eye(4, dtype=np.uint8)[None], Grid(4, 4), colors={0: (1, 2, 3), 1: (9, 8, 7)})
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(tmp_path / "a.tif") as file:
        assert file.colormap(1)[0] == (1, 2, 3, 255) and file.colormap(1)[1] == (9, 8, 7, 255)
        assert file.crs is None and file.transform.is_identity


def test_what_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "a.tif").write_text("old")

    def parts():
        yield np.zeros((1, 10, 20), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_geotiff(tmp_path / "a.tif", parts(), Grid(20, 20))
    assert (tmp_path / "a.tif").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(DataError, match=r"b\.tif cannot be written"):
        write_geotiff(tmp_path / "a.tif" / "b.tif", np.zeros((1, 4, 4), np.uint8), Grid(4, 4))
