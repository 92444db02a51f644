"""Where sources end, are hidden or lie apart, and how little of them is read at once."""

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.raster import Grid, Placement
from mm_ovseg.raster.resampling import resample_image, resample_labels

ZONE = CRS.from_epsg(32652)


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


def labels(values, placement, fill=255):
    source = Source(np.asarray(values, np.uint8))
    return resample_labels(lambda *part: source(*part)[0], placement, 0, 0, *placement.target.shape, fill=fill)


def test_smaller_pixels_are_interpolated_and_edges_repeated():
    found, valid = image([[0, 10], [0, 10]], Placement(grid(2, 2), grid(8, 4, (0.25, 0.5))))
    assert found.tolist() == [[0, 0, 1.25, 3.75, 6.25, 8.75, 10, 10]] * 4 and valid.all()


def test_what_is_not_valid_has_no_part_in_values():
    values, valid = np.full((4, 8), 5.0), np.ones((4, 8), bool)
    values[:, 3:5], valid[:, 3:5] = np.nan, False
    for target in (grid(8, 4, corner=(0.6, 0)), grid(16, 8, 0.5), grid(3, 1, (3, 4))):
        found, found_valid = image(values, Placement(grid(8, 4), target), valid)
        assert found_valid.any() and (found[found_valid] == 5).all() and not found[~found_valid].any()


def test_a_mean_is_of_whatever_is_valid():
    valid = np.zeros((2, 12), bool)
    valid[0, :2] = True  # half of the first four
    valid[0, 4] = True  # a quarter of the second
    valid[:, 8:] = True
    found, found_valid = image(np.ones((2, 12)), Placement(grid(12, 2), grid(6, 1, 2)), valid)
    assert found_valid.tolist() == [[True, False, True, False, True, True]]
    assert found.tolist() == [[1, 0, 1, 0, 1, 1]]


def test_strips_do_not_show(monkeypatch):
    generator = np.random.default_rng(0)
    values, valid = generator.normal(size=(64, 48)), generator.random((64, 48)) > 0.3
    placement = Placement(grid(48, 64), grid(12, 21, (4, 3)))
    whole, whole_labels = image(values, placement, valid), labels(valid, placement)
    monkeypatch.setattr("mm_ovseg.raster.resampling.PIXELS_AT_ONCE", 1)
    for part, of_whole in zip(image(values, placement, valid), whole, strict=True):
        np.testing.assert_array_equal(part, of_whole)
    np.testing.assert_array_equal(labels(valid, placement), whole_labels)


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


@pytest.mark.parametrize("pixel", [0.01, 0.04])
def test_both_ends_of_a_globe_are_read_without_what_lies_between(pixel):
    """A window at 180 degrees of a source from -180 to 180."""
    degrees = CRS.from_epsg(4326)
    globe = Grid(36_000, 18_000, degrees, Affine(0.01, 0, -180, 0, -0.01, 90))
    target = Grid(60, 90, degrees, Affine(pixel, 0, 180 - 21 * pixel, 0, -pixel, 10))
    placement, most = Placement(globe, target), []

    def read(row, column, height, width):
        most.append(height * width)
        west_half = np.arange(column, column + width) < 18_000
        return np.broadcast_to(np.where(west_half, 1, 2), (height, width)).astype(np.uint8)

    expected = np.broadcast_to(np.where(np.arange(60) < 21, 2, 1), (90, 60))
    labels = resample_labels(read, placement, 0, 0, 90, 60, fill=255)
    np.testing.assert_array_equal(labels, expected)
    values, valid = resample_image(
        lambda *part: (read(*part)[..., None], np.ones(part[2:], bool)), placement, 0, 0, 90, 60
    )
    assert valid.all()
    np.testing.assert_allclose(values[..., 0], expected, rtol=1e-6)
    assert max(most) < 2**21
