"""What is put on another grid, against what a pencil says."""

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from mm_ovseg.raster import Grid, Placement, RasterSource, RGBReader, SARReader
from mm_ovseg.raster.resampling import resample_image, resample_labels

ZONE = CRS.from_epsg(32633)
CORNER = (500_000, 5_000_000)
PLACE = Affine(10, 0, CORNER[0], 0, -10, CORNER[1])
NOISE = np.random.default_rng(0)


def grid(width, height, pixel=1.0, corner=(0.0, 0.0)):
    sizes = pixel if isinstance(pixel, tuple) else (pixel, pixel)
    return Grid(width, height, ZONE, Affine(sizes[0], 0, corner[0], 0, -sizes[1], corner[1]))


class Source:
    """Arrays that are read by windows, each of which must be within them."""

    def __init__(self, values, valid=None):
        self.values = np.asarray(values)
        self.valid = np.ones(self.values.shape[:2], bool) if valid is None else valid

    def __call__(self, row, column, height, width):
        assert row >= 0 and column >= 0 and height > 0 and width > 0
        assert row + height <= self.values.shape[0] and column + width <= self.values.shape[1]
        window = np.s_[row : row + height, column : column + width]
        return self.values[window], self.valid[window]


def image(values, placement, valid=None, window=None):
    values = np.asarray(values, np.float32)
    found, found_valid = resample_image(
        Source(values[..., np.newaxis], valid), placement, *(window or (0, 0, *placement.target.shape))
    )
    assert found.dtype == np.float32 and found_valid.dtype == bool
    return found[..., 0], found_valid


def labels(values, placement, fill=255, window=None):
    source = Source(np.asarray(values, np.uint8))
    return resample_labels(
        lambda *part: source(*part)[0], placement, *(window or (0, 0, *placement.target.shape)), fill=fill
    )


def test_larger_pixels_are_means_of_what_they_cover():
    values = np.arange(48.0).reshape(6, 8)
    found, valid = image(values, Placement(grid(8, 6), grid(4, 2, (2, 3))))
    np.testing.assert_allclose(found, values.reshape(2, 3, 4, 2).mean(axis=(1, 3)))
    assert valid.all()


def test_smaller_pixels_are_interpolated_and_edges_repeated():
    found, valid = image([[0, 10], [0, 10]], Placement(grid(2, 2), grid(8, 4, (0.25, 0.5))))
    assert found.tolist() == [[0, 0, 1.25, 3.75, 6.25, 8.75, 10, 10]] * 4 and valid.all()


def test_beyond_the_source_nothing_is_valid():
    found, valid = image(np.full((4, 4), 7), Placement(grid(4, 4), grid(6, 6, corner=(-1.6, 1.6))))
    assert valid.tolist() == [[1 < row < 6 and 1 < column < 6 for column in range(6)] for row in range(6)]
    np.testing.assert_allclose(found, np.where(valid, 7, 0), rtol=1e-6)
    far = Placement(grid(4, 4), grid(6, 6, corner=(1000, 0)))
    found, valid = image(np.full((4, 4), 7), far)
    assert not valid.any() and not found.any() and far.covered == 0


def test_what_is_not_valid_has_no_part_in_values():
    values, valid = np.full((4, 8), 5.0), np.ones((4, 8), bool)
    values[:, 3:5], valid[:, 3:5] = np.nan, False
    for target in (grid(8, 4, corner=(0.6, 0)), grid(16, 8, 0.5), grid(3, 1, (3, 4))):
        found, found_valid = image(values, Placement(grid(8, 4), target), valid)
        assert found_valid.any() and (found[found_valid] == 5).all() and not found[~found_valid].any()


def test_a_mean_needs_half_of_its_pixels():
    valid = np.zeros((2, 12), bool)
    valid[0, :2] = True  # half of the first four
    valid[0, 4] = True  # a quarter of the second
    valid[:, 8:] = True
    found, found_valid = image(np.ones((2, 12)), Placement(grid(12, 2), grid(6, 1, 2)), valid)
    assert found_valid.tolist() == [[True, False, False, False, True, True]]
    assert found.tolist() == [[1, 0, 0, 0, 1, 1]]


def test_strips_do_not_show(monkeypatch):
    generator = np.random.default_rng(0)
    values, valid = generator.normal(size=(64, 48)), generator.random((64, 48)) > 0.3
    placement = Placement(grid(48, 64), grid(12, 21, (4, 3)))
    whole, whole_labels = image(values, placement, valid), labels(valid, placement)
    monkeypatch.setattr("mm_ovseg.raster.resampling.PIXELS_AT_ONCE", 1)
    for part, of_whole in zip(image(values, placement, valid), whole, strict=True):
        np.testing.assert_array_equal(part, of_whole)
    np.testing.assert_array_equal(labels(valid, placement), whole_labels)


def test_labels_take_the_mode_where_pixels_become_larger():
    stripes = np.array([[0, 1, 1, 2, 3, 3], [1, 1, 4, 4, 3, 0], [1, 0, 2, 2, 5, 3]])
    assert labels(stripes, Placement(grid(6, 3), grid(2, 1, 3))).tolist() == [[1, 3]]
    # One row and two columns; equal numbers give the smaller.
    assert labels(stripes, Placement(grid(6, 3), grid(3, 3, (2, 1)))).tolist() == [[0, 1, 3], [1, 4, 0], [0, 2, 3]]


def test_labels_of_thin_lines_do_not_survive_by_chance():
    thin = np.zeros((40, 40))
    thin[:, 2::5] = 1  # a fifth of the pixels, at each coarse pixel's centre
    assert not labels(thin, Placement(grid(40, 40), grid(8, 8, 5))).any()


def test_labels_elsewhere_take_the_nearest_pixel():
    values = [[1, 2], [3, 4]]
    assert labels(values, Placement(grid(2, 2), grid(4, 4, 0.5))).tolist() == np.kron(values, np.ones((2, 2))).tolist()
    found = labels(values, Placement(grid(2, 2), grid(3, 3, corner=(-0.6, 0.6))), fill=9)
    assert found.tolist() == [[9, 9, 9], [9, 1, 2], [9, 3, 4]]


def test_labels_beyond_the_source_vote_as_the_fill():
    found = labels(np.ones((4, 4)), Placement(grid(4, 4), grid(2, 1, 4, corner=(1, 0))))
    assert found.tolist() == [[1, 255]]  # three quarters of the first, nothing of the second


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_sources_of_one_row_or_column(shape):
    placement = Placement(grid(*shape[::-1]), grid(shape[1] * 2, shape[0] * 2, 0.5))
    found, valid = image(np.full(shape, 3), placement)
    assert valid.all() and (found == 3).all() and (labels(np.full(shape, 3), placement) == 3).all()


@pytest.mark.parametrize("crs, transform", [
    (ZONE, PLACE @ Affine.translation(2.3, 1.1) @ Affine.scale(0.7)),
    (ZONE, PLACE @ Affine.translation(3, 2) @ Affine.scale(2.6)),
    (ZONE, PLACE @ Affine.translation(20, 1) @ Affine.rotation(25) @ Affine.scale(1.3)),
    (CRS.from_epsg(32634), Affine(11, 0, 28_300, 0, -11, 5_017_500)),
    (CRS.from_epsg(4326), Affine(1.3e-4, 0, 15.0001, 0, -1e-4, 45.1535)),
])  # fmt: skip
def test_a_window_is_that_part_of_the_whole(crs, transform):
    """Whatever is read at once: exactly so, or maps would have seams."""
    values, valid = NOISE.uniform(0, 9, (90, 80)), NOISE.random((90, 80)) > 0.2
    numbers = NOISE.integers(0, 4, (90, 80))
    placement = Placement(Grid(80, 90, ZONE, PLACE), Grid(70, 60, crs, transform))
    assert placement.covered > 0.2
    whole, whole_valid = image(values, placement, valid)
    whole_labels = labels(numbers, placement)
    assert whole_valid.any() and (whole_labels != 255).any()
    for window in ((0, 0, 1, 1), (7, 31, 20, 33), (33, 0, 27, 70), (59, 69, 1, 1)):
        row, column, height, width = window
        part = np.s_[row : row + height, column : column + width]
        found, found_valid = image(values, placement, valid, window)
        np.testing.assert_array_equal(found, whole[part])
        np.testing.assert_array_equal(found_valid, whole_valid[part])
        np.testing.assert_array_equal(labels(numbers, placement, window=window), whole_labels[part])


def test_a_plane_stays_a_plane_wherever_pixels_lie():
    rows, columns = np.mgrid[:40, :50].astype(np.float32)
    values = 3 * rows + 2 * columns
    found, valid = image(values, Placement(grid(50, 40), grid(30, 20, 0.9, (5.3, -7.7))))
    target_rows, target_columns = np.mgrid[:20, :30]
    expected = 3 * ((target_rows + 0.5) * 0.9 + 7.2) + 2 * ((target_columns + 0.5) * 0.9 + 4.8)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert valid.all()


@pytest.mark.parametrize("scale, of_decibels", [
    ("power", lambda decibels: 10 ** (decibels / 10)),
    ("amplitude", lambda decibels: 10 ** (decibels / 20)),
    ("db", lambda decibels: decibels),
])  # fmt: skip
def test_sar_is_averaged_in_linear_power_whatever_its_unit(tmp_path, write_raster, scale, of_decibels):
    decibels = NOISE.uniform(-25, 0, (12, 16))
    path = write_raster(tmp_path / "sar.tif", of_decibels(decibels).astype(np.float32), crs=ZONE, transform=PLACE)
    sar_reader = SARReader(scale=scale, value_range=(-25, 0))
    with RasterSource(path) as source:
        placement = Placement(source.grid, grid(4, 3, 40, CORNER))
        sar, valid = sar_reader.read_onto(source, placement, (0, 0, 3, 4))
    power = (10 ** (decibels / 10)).reshape(3, 4, 4, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(sar[..., 0], (10 * np.log10(power) + 25) / 25 * 255, atol=0.01)
    assert valid.all()


def test_8_bit_sar_is_averaged_as_the_amplitude_that_it_is(tmp_path, write_raster):
    path = write_raster(tmp_path / "sar.tif", np.array([[0, 100], [100, 200]], np.uint8), crs=ZONE, transform=PLACE)
    with RasterSource(path) as source:
        sar, _ = SARReader().read_onto(source, Placement(source.grid, grid(1, 1, 20, CORNER)), (0, 0, 1, 1))
    np.testing.assert_allclose(sar[0, 0], np.sqrt((100**2 + 100**2 + 200**2) / 4), rtol=1e-5)


def test_a_polarisation_without_data_leaves_none_of_its_pixel_in_means(tmp_path, write_raster):
    """Validity is combined over the bands before anything is averaged."""
    bands = np.dstack([np.full((2, 2), -10.0), np.full((2, 2), -20.0)]).astype(np.float32)
    bands[0, 0] = (40, np.nan)
    path = write_raster(tmp_path / "sar.tif", bands, crs=ZONE, transform=PLACE)
    with RasterSource(path) as source:
        placement = Placement(source.grid, grid(1, 1, 20, CORNER))
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
    path = write_raster(tmp_path / "a.tif", rgb, crs=ZONE, transform=PLACE, **profile)
    with RasterSource(path) as source:
        image, valid = RGBReader().read_onto(source, Placement(source.grid, grid(2, 2, 20, CORNER)), (0, 0, 2, 2))
    np.testing.assert_array_equal(valid, [[True, True], [True, False]])
    np.testing.assert_array_equal(image, np.where(valid, 90, 0)[..., None].repeat(3, axis=2))
