"""What a raster says of its own pixels: order, validity, bands, whichever way its file stores them."""

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.enums import ColorInterp

from mm_ovseg.errors import DataError
from mm_ovseg.raster import RasterSource, read_rgb, read_sar

RGB = np.random.default_rng(0).integers(1, 256, (6, 9, 3), dtype=np.uint8)
PLACE = Affine(10, 0, 500_000, 0, -10, 4_000_000)
UTM = {"crs": "EPSG:32652", "transform": PLACE}
SOUTH_UP = {"crs": "EPSG:32652", "transform": PLACE @ Affine(1, 0, 0, 0, -1, 6)}
COLORS = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
KNOWN = np.ones((6, 9), dtype=bool)
KNOWN[2, 3:6] = KNOWN[5, 0] = False


@pytest.fixture
def masked(tmp_path, write_raster):
    """A function ``kind -> path`` of RGB whose pixels outside of KNOWN are without data, though not all of them 0."""

    def write(kind):
        path = tmp_path / f"{kind}.tif"
        hidden = np.where(KNOWN[..., None], RGB, np.uint8(0))
        if kind == "nodata":
            return write_raster(path, hidden, nodata=0, **UTM)
        if kind == "internal mask":
            return write_raster(path, RGB, mask=KNOWN, **UTM)
        if kind == "alpha":
            alpha = np.where(KNOWN, np.uint8(255), np.uint8(0))
            return write_raster(path, np.dstack([RGB, alpha]), colorinterp=[*COLORS, ColorInterp.alpha], **UTM)
        write_raster(path, RGB, **UTM)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            file.write_mask(KNOWN)
        assert path.with_name(f"{path.name}.msk").is_file()
        return path

    return write


@pytest.mark.parametrize("kind", ["nodata", "internal mask", "external mask", "alpha"])
@pytest.mark.parametrize("window", [None, (1, 4, 3, 4)])
def test_validity_is_one_whatever_says_it(masked, kind, window):
    path = masked(kind)
    cut = (slice(None), slice(None)) if window is None else (slice(1, 4), slice(4, 8))
    for read in (read_rgb, read_sar):
        image, valid = read(path, window)
        np.testing.assert_array_equal(valid, KNOWN[cut])
        np.testing.assert_array_equal(image, np.where(KNOWN[..., None], RGB, 0)[cut])
    with RasterSource(path) as source:
        assert not source.is_declared_valid


def test_a_file_that_says_nothing_is_valid(tmp_path, write_raster):
    with RasterSource(write_raster(tmp_path / "a.tif", RGB)) as source:
        assert source.is_declared_valid and source.read([1, 2, 3])[1] is None and source.mask() is None


def test_a_mask_and_a_nodata_value_both_count(tmp_path, write_raster):
    rgb = RGB.copy()
    rgb[0, 0] = 0
    path = write_raster(tmp_path / "a.tif", rgb, nodata=0, mask=KNOWN)
    expected = KNOWN.copy()
    expected[0, 0] = False
    np.testing.assert_array_equal(read_rgb(path)[1], expected)


@pytest.mark.parametrize("nodata, stored", [(-9999, np.int16), (1e38, np.float32), (0.1, np.float32), (-128, np.int8)])
def test_nodata_of_each_type(tmp_path, write_raster, nodata, stored):
    values = np.full((2, 2), 5, dtype=stored)
    values[0, 1] = nodata
    with RasterSource(write_raster(tmp_path / "a.tif", values, nodata=nodata)) as source:
        for dtype in (None, "float32"):
            valid = source.read([1], dtype=dtype)[1]
            np.testing.assert_array_equal(valid[..., 0], [[True, False], [True, True]])


def test_a_nodata_value_that_the_type_does_not_have_hides_nothing(tmp_path, write_raster):
    path = write_raster(tmp_path / "a.tif", np.array([[1, 2], [3, 255]], np.uint8))
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>-9999</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    with RasterSource(path) as source:
        assert source.bands[0].nodata in (-9999, None)
        assert source.read([1])[1] is None


@pytest.mark.parametrize("stored", [
    Affine(10, 0, 500_000, 0, 10, 3_999_940),  # south-up
    Affine(-10, 0, 500_090, 0, -10, 4_000_000),  # east to west
    Affine(-10, 0, 500_090, 0, 10, 3_999_940),
    Affine(0, 10, 500_000, -10, 0, 4_000_000),  # rows run east
    Affine(0, -10, 500_090, 10, 0, 3_999_940),
])  # fmt: skip
@pytest.mark.parametrize("mask", ["none", "mask", "alpha", "nodata"])
def test_pixels_are_north_up_in_whichever_order_they_are_stored(tmp_path, write_raster, stored, mask):
    rows, columns = np.mgrid[:6, :9] + 0.5
    x, y = PLACE @ (columns, rows)
    there_columns, there_rows = (np.floor(axis).astype(int) for axis in ~stored @ (x, y))
    shape = (9, 6) if stored.a == 0 else (6, 9)
    pixels, known = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool)
    pixels[there_rows, there_columns], known[there_rows, there_columns] = RGB, KNOWN
    profile = {"crs": UTM["crs"], "transform": stored}
    if mask == "mask":
        profile["mask"] = known
    elif mask == "alpha":
        pixels = np.dstack([pixels, np.where(known, np.uint8(255), np.uint8(0))])
        profile["colorinterp"] = [*COLORS, ColorInterp.alpha]
    elif mask == "nodata":
        pixels[~known] = 0
        profile["nodata"] = 0
    path = write_raster(tmp_path / "a.tif", pixels, **profile)
    valid = np.ones((6, 9), bool) if mask == "none" else KNOWN
    with RasterSource(path) as source:
        assert source.grid.shape == (6, 9) and source.grid.transform.almost_equals(PLACE)
        if mask == "mask":
            np.testing.assert_array_equal(source.mask(), KNOWN)
    for window, cut in ((None, np.s_[:, :]), ((1, 4, 3, 5), np.s_[1:4, 4:9])):
        image, image_valid = read_rgb(path, window)
        np.testing.assert_array_equal(image_valid, valid[cut])
        np.testing.assert_array_equal(image, np.where(valid[..., None], RGB, 0)[cut])


def test_several_files_are_the_bands_of_one(tmp_path, write_raster):
    known = np.ones((6, 9), bool)
    known[1, 1] = False
    paths = [
        write_raster(tmp_path / "red.tif", RGB[..., 0], mask=known, **UTM),
        write_raster(tmp_path / "green.tif", RGB[..., 1], **UTM),
        write_raster(tmp_path / "blue.tif", RGB[::-1, :, 2], **SOUTH_UP),
    ]
    with RasterSource(paths) as source:
        assert source.name == f"{paths[0]} (with green.tif, blue.tif)" and len(source.bands) == 3
        values, valid = source.read([3, 1, 2])
        np.testing.assert_array_equal(values, RGB[..., [2, 0, 1]])
        assert not valid[1, 1, 1] and valid.sum() == valid.size - 1
    image, valid = read_rgb(paths, (1, 1, 2, 3))
    np.testing.assert_array_equal(image[0, 1:], RGB[1, 2:4])
    with pytest.raises(DataError, match=r"red\.tif \(with green\.tif, blue\.tif\) has no band 4, only bands 1 to 3"):
        read_rgb(paths, bands=(4, 1, 2))
    other = write_raster(
        tmp_path / "other.tif", RGB[..., 0], crs=UTM["crs"], transform=PLACE @ Affine.translation(3, 0)
    )
    with pytest.raises(DataError, match=r"red\.tif and .*other\.tif cover different places"):
        RasterSource([paths[0], other])


def test_files_of_different_types(tmp_path, write_raster):
    paths = [
        write_raster(tmp_path / "a.tif", np.full((2, 2), 200, np.uint8)),
        write_raster(tmp_path / "b.tif", np.full((2, 2), -3, np.int16)),
    ]
    with RasterSource(paths) as source:
        values, _ = source.read([1, 2])
    assert values.dtype == np.int16 and values[0, 0].tolist() == [200, -3]


def test_how_pixels_lie_is_settled_with_the_other_image(tmp_path, write_raster):
    """An image without georeference is turned as the one that it belongs to, in whichever order the two are given."""
    turned, plain = write_raster(tmp_path / "a.tif", RGB, **SOUTH_UP), write_raster(tmp_path / "b.tif", RGB)
    with RasterSource(turned) as first, RasterSource(plain) as second:
        first.align(second)
        np.testing.assert_array_equal(second.read([1, 2, 3])[0], first.read([1, 2, 3])[0])
        assert second.grid == first.grid
    with RasterSource(plain) as first, RasterSource(turned) as second:
        first.align(second)
        np.testing.assert_array_equal(second.read([1, 2, 3])[0], RGB)


@pytest.mark.parametrize("window", [(0, 0, 7, 9), (5, 0, 2, 9), (0, 8, 1, 2), (-1, 0, 2, 2), (0, 0, 0, 3)])
def test_windows_lie_within(tmp_path, write_raster, window):
    path = write_raster(tmp_path / "a.tif", RGB)
    with pytest.raises(DataError, match=r"is not within .*a\.tif, which has 6 rows of 9 pixels"):
        read_rgb(path, window)


@pytest.mark.parametrize("paths", [[], None])
def test_no_files(paths):
    with pytest.raises(DataError, match="No file is given"):
        read_rgb(paths)


def test_one_bit_whose_zero_is_white(tmp_path, write_raster):
    """GDAL gives it a colour table, which says it already."""
    bits = (RGB[..., 0] > 99).astype(np.uint8)
    for photometric, white in (("MINISWHITE", 0), ("MINISBLACK", 1)):
        path = write_raster(tmp_path / f"{photometric}.tif", bits, photometric=photometric, nbits=1)
        with rasterio.open(path) as file:
            colors = file.colormap(1)
        assert colors[white][:3] == (255, 255, 255)
        np.testing.assert_array_equal(read_rgb(path)[0][..., 0], np.where(bits == white, 255, 0))


@pytest.mark.parametrize("size", [0, 1e300, np.inf, np.nan])
def test_pixels_without_an_extent(tmp_path, write_raster, size):
    path = write_raster(tmp_path / "a.tif", RGB, crs="EPSG:32652", transform=Affine(size, 0, 5e5, 0, -size or -10, 4e6))
    with pytest.raises(DataError, match="onto a line|control points only"):
        read_rgb(path)
