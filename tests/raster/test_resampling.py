"""What is put on another grid, against what a pencil says."""

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from mm_ovseg.raster import Placement, RasterSource, RGBReader, SARReader
from mm_ovseg.raster.grid import Grid
from mm_ovseg.raster.resampling import resample_image, resample_labels

UTM = CRS.from_epsg(32633)
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
NOISE = np.random.default_rng(0)


def reader(values, valid=None):
    """Reads windows of an array, (H, W) or (H, W, C)."""
    values = values[..., None] if values.ndim == 2 else values
    valid = np.ones(values.shape[:2], bool) if valid is None else valid

    def read(row, column, height, width):
        part = np.s_[row : row + height, column : column + width]
        assert min(row, column) >= 0 and values[part].shape[:2] == (height, width) and height and width
        return values[part], valid[part]

    return read


def grid(height, width, scale=1.0, left=0.0, top=0.0, crs=UTM):
    """Pixels of so many of PLACE, from that column and row of it on."""
    return Grid(width, height, crs, PLACE @ Affine.translation(left, top) @ Affine.scale(scale))


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_larger_pixels_are_means_of_what_they_cover(factor):
    values = NOISE.uniform(0, 9, (6 * factor, 4 * factor)).astype(np.float32)
    placement = Placement(grid(*values.shape), grid(6, 4, factor))
    image, valid = resample_image(reader(values), placement, 0, 0, 6, 4)
    expected = values.reshape(6, factor, 4, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(image[..., 0], expected, rtol=1e-5)
    assert valid.all()


def test_pixels_that_are_larger_in_one_direction_only():
    values = NOISE.uniform(0, 9, (6, 12)).astype(np.float32)
    target = Grid(3, 6, UTM, PLACE @ Affine.scale(4, 1))
    image, _ = resample_image(reader(values), Placement(grid(6, 12), target), 0, 0, 6, 3)
    np.testing.assert_allclose(image[..., 0], values.reshape(6, 3, 4).mean(axis=2), rtol=1e-5)


def test_smaller_pixels_are_between_their_neighbours():
    values = np.array([[0.0, 10, 30], [100, 110, 130]], np.float32)
    image, valid = resample_image(reader(values), Placement(grid(2, 3), grid(4, 6, 0.5)), 0, 0, 4, 6)
    along = [0, 2.5, 7.5, 15, 25, 30]  # a quarter, then three quarters, between centres; beyond them the edge itself
    np.testing.assert_allclose(image[..., 0], np.add.outer([0, 25, 75, 100], along), rtol=1e-6)
    assert valid.all()


def test_a_plane_stays_a_plane_wherever_pixels_lie():
    rows, columns = np.mgrid[:40, :50].astype(np.float32)
    values = 3 * rows + 2 * columns
    placement = Placement(grid(40, 50), grid(20, 30, 0.9, 5.3, 7.7))
    image, valid = resample_image(reader(values), placement, 0, 0, 20, 30)
    target_rows, target_columns = np.mgrid[:20, :30]
    expected = 3 * ((target_rows + 0.5) * 0.9 + 7.2) + 2 * ((target_columns + 0.5) * 0.9 + 4.8)
    np.testing.assert_allclose(image[..., 0], expected, rtol=1e-5)
    assert valid.all()


def test_what_is_not_valid_has_no_part_in_means():
    values, valid = np.full((4, 4), 7, np.float32), np.ones((4, 4), bool)
    values[0, 0], valid[0, 0] = 1e30, False  # one of four: the others make the mean
    values[0, 2:], valid[0, 2:] = np.nan, False  # half of four
    values[2:, :2], valid[2:, :2] = -5, False
    valid[2, 2:] = valid[3, 2] = False  # three of four
    image, known = resample_image(reader(values, valid), Placement(grid(4, 4), grid(2, 2, 2)), 0, 0, 2, 2)
    np.testing.assert_array_equal(known, [[True, True], [False, True]])
    np.testing.assert_array_equal(image[..., 0], [[7, 7], [0, 7]])


def test_what_is_not_valid_has_no_part_in_what_is_between():
    values, valid = np.full((1, 4), 50, np.float32), np.array([[True, True, False, False]])
    values[~valid] = np.nan
    image, known = resample_image(reader(values, valid), Placement(grid(1, 4), grid(1, 16, 0.25)), 0, 0, 1, 16)
    assert known[0, :8].all() and not known[0, 10:].any()
    np.testing.assert_array_equal(image[0, :, 0], np.where(known[0], 50, 0))


def test_beyond_the_source_nothing_is_valid():
    values = np.ones((4, 5), np.float32)
    placement = Placement(grid(4, 5), grid(10, 12, 1.0, -3.5, -2.5))
    image, valid = resample_image(reader(values), placement, 0, 0, 10, 12)
    expected = np.zeros((10, 12), bool)
    expected[2:7, 3:9] = True  # centres that lie within it, those on its edges too
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(image[..., 0], expected)
    away = Placement(grid(4, 5), grid(3, 3, 1.0, 500, 500))
    image, valid = resample_image(reader(values), away, 0, 0, 3, 3)
    assert not valid.any() and not image.any() and away.covered == 0


@pytest.mark.parametrize("crs, transform", [
    (UTM, PLACE @ Affine.translation(2.3, 1.1) @ Affine.scale(0.7)),
    (UTM, PLACE @ Affine.translation(3, 2) @ Affine.scale(2.6)),
    (UTM, PLACE @ Affine.translation(20, 1) @ Affine.rotation(25) @ Affine.scale(1.3)),
    (CRS.from_epsg(32634), Affine(11, 0, 28_300, 0, -11, 5_017_500)),
    (CRS.from_epsg(4326), Affine(1.3e-4, 0, 15.0001, 0, -1e-4, 45.1535)),
])  # fmt: skip
def test_a_window_is_that_part_of_the_whole(crs, transform):
    """Whatever is read at once: exactly so, or maps would have seams."""
    values = NOISE.uniform(0, 9, (90, 80, 2)).astype(np.float32)
    valid = NOISE.random((90, 80)) > 0.2
    labels = NOISE.integers(0, 4, (90, 80), dtype=np.uint8)
    target = Grid(70, 60, crs, transform)
    placement = Placement(Grid(80, 90, UTM, PLACE), target)
    assert placement.covered > 0.2
    image, known = resample_image(reader(values, valid), placement, 0, 0, 60, 70)
    whole = resample_labels(lambda *part: reader(labels)(*part)[0][..., 0], placement, 0, 0, 60, 70, fill=255)
    assert known.any() and (whole != 255).any()
    for row, column, height, width in ((0, 0, 1, 1), (7, 31, 20, 33), (33, 0, 27, 70), (59, 69, 1, 1)):
        part = np.s_[row : row + height, column : column + width]
        window = resample_image(reader(values, valid), placement, row, column, height, width)
        np.testing.assert_array_equal(window[0], image[part])
        np.testing.assert_array_equal(window[1], known[part])
        again = resample_labels(
            lambda *area: reader(labels)(*area)[0][..., 0], placement, row, column, height, width, fill=255
        )
        np.testing.assert_array_equal(again, whole[part])


@pytest.mark.parametrize(("scale", "left", "top"), [(2.6, -3.3, 1.7), (0.4, 4.1, -2.2), (1.0, -2.5, 0.25)])
def test_rows_and_columns_one_after_the_other_give_the_same(monkeypatch, scale, left, top):
    values, valid = NOISE.uniform(0, 9, (30, 40, 2)).astype(np.float32), NOISE.random((30, 40)) < 0.8
    placement = Placement(grid(30, 40), grid(12, 14, scale, left, top))
    assert placement.is_separable
    image, image_valid = resample_image(reader(values, valid), placement, 0, 0, 12, 14)
    monkeypatch.setattr(Placement, "is_separable", False)
    expected, expected_valid = resample_image(reader(values, valid), placement, 0, 0, 12, 14)
    np.testing.assert_array_equal(image_valid, expected_valid)
    np.testing.assert_allclose(image, expected, atol=1e-5)
    assert image_valid.any() and not image_valid.all()


def test_labels_of_larger_pixels_are_the_mode():
    labels = np.array([[1, 1, 2, 3], [1, 4, 3, 3], [5, 6, 7, 7], [6, 5, 8, 8]], np.uint8)
    placement = Placement(grid(4, 4), grid(2, 2, 2))
    found = resample_labels(lambda *part: reader(labels)(*part)[0][..., 0], placement, 0, 0, 2, 2, fill=255)
    np.testing.assert_array_equal(found, [[1, 3], [5, 7]])  # of equals the smallest


@pytest.mark.parametrize("scale, of_decibels", [
    ("power", lambda decibels: 10 ** (decibels / 10)),
    ("amplitude", lambda decibels: 10 ** (decibels / 20)),
    ("db", lambda decibels: decibels),
])  # fmt: skip
def test_sar_is_averaged_in_linear_power_whatever_its_unit(tmp_path, write_raster, scale, of_decibels):
    decibels = NOISE.uniform(-25, 0, (12, 16))
    path = write_raster(tmp_path / "sar.tif", of_decibels(decibels).astype(np.float32), crs=UTM, transform=PLACE)
    sar_reader = SARReader(scale=scale, value_range=(-25, 0))
    with RasterSource(path) as source:
        placement = Placement(source.grid, grid(3, 4, 4))
        sar, valid = sar_reader.read_onto(source, placement, (0, 0, 3, 4))
    power = (10 ** (decibels / 10)).reshape(3, 4, 4, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(sar[..., 0], (10 * np.log10(power) + 25) / 25 * 255, atol=0.01)
    assert valid.all()


def test_8_bit_sar_is_averaged_as_the_amplitude_that_it_is(tmp_path, write_raster):
    path = write_raster(tmp_path / "sar.tif", np.array([[0, 100], [100, 200]], np.uint8), crs=UTM, transform=PLACE)
    with RasterSource(path) as source:
        sar, _ = SARReader().read_onto(source, Placement(source.grid, grid(1, 1, 2)), (0, 0, 1, 1))
    np.testing.assert_allclose(sar[0, 0], np.sqrt((100**2 + 100**2 + 200**2) / 4), rtol=1e-5)


def test_a_polarisation_without_data_leaves_none_of_its_pixel_in_means(tmp_path, write_raster):
    """Validity is combined over the bands before anything is averaged."""
    bands = np.dstack([np.full((2, 2), -10.0), np.full((2, 2), -20.0)]).astype(np.float32)
    bands[0, 0] = (40, np.nan)
    path = write_raster(tmp_path / "sar.tif", bands, crs=UTM, transform=PLACE)
    with RasterSource(path) as source:
        placement = Placement(source.grid, grid(1, 1, 2))
        sar, valid = SARReader(scale="db", value_range=(-25, 0)).read_onto(source, placement, (0, 0, 1, 1))
    assert valid.all()
    np.testing.assert_allclose(sar[0, 0, :2], [153, 51], atol=1e-3)


@pytest.mark.parametrize("mask", ["mask", "nodata", "alpha"])
def test_validity_of_rgb_counts_before_averages_whatever_says_it(tmp_path, write_raster, mask):
    rgb, known = np.full((4, 4, 3), 90, np.uint8), np.ones((4, 4), bool)
    known[0, 0] = False
    known[2:, 2:] = False
    rgb[~known] = 0
    profile = {"mask": {"mask": known}, "nodata": {"nodata": 0}, "alpha": {}}[mask]
    if mask == "alpha":
        rgb = np.dstack([rgb, np.where(known, np.uint8(255), np.uint8(0))])
        profile["colorinterp"] = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write_raster(tmp_path / "a.tif", rgb, crs=UTM, transform=PLACE, **profile)
    with RasterSource(path) as source:
        image, valid = RGBReader().read_onto(source, Placement(source.grid, grid(2, 2, 2)), (0, 0, 2, 2))
    np.testing.assert_array_equal(valid, [[True, True], [True, False]])
    np.testing.assert_array_equal(image, np.where(valid, 90, 0)[..., None].repeat(3, axis=2))
