import numpy as np
import pytest
from rasterio import Affine
from rasterio.enums import ColorInterp

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, LabelReader, Placement, RasterSource, read_label

PLACE = {"crs": "EPSG:32652", "transform": Affine(10, 0, 500_000, 0, -10, 4_000_000)}


def test_values_and_the_ignored_one(tmp_path, write_raster):
    raw = np.array([[0, 1, 2], [4, 255, 0]], dtype=np.uint8)
    label = read_label(write_raster(tmp_path / "a.png", raw), num_classes=5)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, raw)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_values_are_mapped(tmp_path, write_raster, dtype):
    raw = np.array([[0, 10, 20], [255, 20, 10]], dtype=dtype)
    path = write_raster(tmp_path / "a.tif", raw)
    label = read_label(path, num_classes=2, label_values={0: 255, 10: 1, 20: 0})
    np.testing.assert_array_equal(label, [[255, 1, 0], [255, 0, 1]])


def test_a_palette_gives_its_indices(tmp_path, write_raster):
    raw = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    colors = {index: (80 * index, 10, 200, 255) for index in range(3)}
    path = write_raster(tmp_path / "a.png", raw, colormap=colors)
    np.testing.assert_array_equal(read_label(path, num_classes=3), raw)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("nodata", [99, 0])
def test_nodata_is_ignored_whatever_value_it_is(tmp_path, write_raster, dtype, nodata):
    """A file that says that 0 is without data means it, though 0 would be a class."""
    raw = np.array([[nodata, 1, 1, nodata]], dtype=dtype)
    path = write_raster(tmp_path / "a.tif", raw, nodata=nodata)
    np.testing.assert_array_equal(read_label(path, num_classes=2), [[255, 1, 1, 255]])


@pytest.mark.parametrize("kind", ["mask", "alpha", "NaN"])
def test_what_is_masked_is_ignored_whatever_it_holds(tmp_path, write_raster, kind):
    raw, known = np.array([[0, 1, 77, 1]], dtype=np.uint8), np.array([[True, False, False, True]])
    path = tmp_path / "a.tif"
    if kind == "mask":
        write_raster(path, raw, mask=known)
    elif kind == "alpha":
        alpha = np.where(known, np.uint8(255), np.uint8(0))
        write_raster(path, np.dstack([raw, alpha]), colorinterp=[ColorInterp.gray, ColorInterp.alpha])
    else:
        write_raster(path, np.where(known, raw, np.nan).astype(np.float32))
    np.testing.assert_array_equal(read_label(path, num_classes=2), [[0, 255, 255, 1]])


def test_an_unknown_value_names_file_value_and_pixels(tmp_path, write_raster):
    path = write_raster(tmp_path / "tile_7.png", np.array([[0, 9, 9]], dtype=np.uint8))
    with pytest.raises(DataError, match=r"tile_7\.png has the label value 9 \(2 pixels\), .*allowed: 0, 1, 255"):
        read_label(path, num_classes=2)
    path = write_raster(tmp_path / "tile_8.tif", np.array([[0, -1, 300]], dtype=np.int16))
    with pytest.raises(DataError, match=r"tile_8\.tif has the label value -1 \(1 pixels\), 300 \(1 pixels\)"):
        read_label(path, num_classes=2)
    many = write_raster(tmp_path / "many.tif", np.arange(100, 130, dtype=np.int16)[None])
    with pytest.raises(DataError, match=r"100 \(1 pixels\), .*109 \(1 pixels\), \.\.\., which belongs to no class"):
        read_label(many, num_classes=2)


def test_what_is_not_a_label_map(tmp_path, write_raster):
    with pytest.raises(DataError, match=r"a\.png has 3 bands of uint8; a label map has one"):
        read_label(write_raster(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8)), num_classes=2)
    with pytest.raises(DataError, match=r"b\.tif has values that are not whole numbers"):
        read_label(write_raster(tmp_path / "b.tif", np.full((2, 2), 0.5, dtype=np.float32)), num_classes=2)
    huge = write_raster(tmp_path / "huge.tif", np.full((2, 2), -1e30))
    with pytest.raises(DataError, match=r"huge\.tif has the label value -1000000000000000\d+ \(4 pixels\)"):
        read_label(huge, num_classes=2)
    with pytest.raises(DataError, match="complex64"):
        read_label(write_raster(tmp_path / "c.tif", np.ones((2, 2), dtype=np.complex64)), num_classes=2)


def test_labels_lie_on_the_grid_of_their_image(tmp_path, write_raster):
    raw = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = write_raster(tmp_path / "image.tif", np.zeros((2, 3, 3), np.uint8), **PLACE)
    south_up = {"crs": PLACE["crs"], "transform": PLACE["transform"] @ Affine(1, 0, 0, 0, -1, 2)}
    flipped = write_raster(tmp_path / "flipped.tif", raw[::-1], **south_up)
    beside = {"crs": PLACE["crs"], "transform": PLACE["transform"] @ Affine.translation(3, 0)}
    elsewhere = write_raster(tmp_path / "elsewhere.tif", raw, **beside)
    with RasterSource(image) as source:
        np.testing.assert_array_equal(read_label(flipped, num_classes=6, like=source), raw)
        with pytest.raises(DataError, match=r"elsewhere\.tif cover different places"):
            read_label(elsewhere, num_classes=6, like=source)


def test_labels_of_an_image_that_says_nothing_of_its_place(tmp_path, write_raster):
    """Then rows are rows: the label's own direction must not turn it under the image."""
    raw = np.arange(6, dtype=np.uint8).reshape(2, 3)
    south_up = {"crs": PLACE["crs"], "transform": PLACE["transform"] @ Affine(1, 0, 0, 0, -1, 2)}
    label = write_raster(tmp_path / "label.tif", raw, **south_up)
    with RasterSource(write_raster(tmp_path / "image.png", np.zeros((2, 3, 3), np.uint8))) as source:
        np.testing.assert_array_equal(read_label(label, num_classes=6, like=source), raw)


def test_what_is_put_on_a_coarser_grid_is_the_mode(tmp_path, write_raster):
    raw = np.array([[1, 1, 2, 2], [1, 0, 2, 7], [3, 3, 0, 1], [3, 9, 9, 9]], dtype=np.uint8)
    path = write_raster(tmp_path / "a.tif", raw, nodata=9, **PLACE)
    with RasterSource(path) as source:
        coarse = Grid(2, 2, source.grid.crs, PLACE["transform"] @ Affine.scale(2))
        reader = LabelReader.of_classes(4)
        labels, unknown = reader.read_onto(source, Placement(source.grid, coarse), (0, 0, 2, 2))
    # Below right: 0, 1 and two pixels without a label, which are most.
    np.testing.assert_array_equal(labels, [[1, 2], [3, 255]])
    assert unknown == {7: 1}


def test_what_is_put_on_a_finer_grid_is_the_nearest(tmp_path, write_raster):
    raw = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    with RasterSource(write_raster(tmp_path / "a.tif", raw, **PLACE)) as source:
        fine = Grid(8, 6, source.grid.crs, PLACE["transform"] @ Affine.scale(1 / 3))
        labels, _ = LabelReader.of_classes(4).read_onto(source, Placement(source.grid, fine), (0, 0, 6, 8))
    expected = np.full((6, 8), 255)
    expected[:, :6] = raw.repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(labels, expected)
