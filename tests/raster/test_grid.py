import math

import numpy as np
import pytest
from pyproj import Geod
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import Grid
from mm_ovseg.raster.grid import Orientation, largest_offset, nearest_turn

UTM = CRS.from_epsg(32652)
DEGREES = CRS.from_epsg(4326)
LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
PLACE = Affine(10, 0, 500_000, 0, -10, 4_000_000)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flip_rows", [False, True])
@pytest.mark.parametrize("flip_columns", [False, True])
def test_a_window_is_that_part_of_what_is_turned(transpose, flip_rows, flip_columns):
    orientation = Orientation(transpose, flip_rows, flip_columns)
    stored = np.arange(35).reshape(5, 7)
    turned = orientation.apply(stored)
    for window in ((0, 0, 1, 1), (1, 2, 3, 2), (0, 1, *np.subtract(turned.shape, (0, 1)))):
        row, column, height, width = orientation.stored_window(*window, *stored.shape)
        part = orientation.apply(stored[row : row + height, column : column + width])
        np.testing.assert_array_equal(
            part, turned[window[0] : window[0] + window[2], window[1] : window[1] + window[3]]
        )


@pytest.mark.parametrize("angle", [0, 20, -40, 70, 90, 135, 180, 200, 270, 300])
@pytest.mark.parametrize("mirrored", [1, -1])
def test_every_pixel_keeps_its_place(angle, mirrored):
    transform = PLACE @ Affine.rotation(angle) @ Affine.scale(1, mirrored)
    grid, orientation = Grid.north_up(3, 2, UTM, transform)
    stored = np.stack(transform @ tuple(np.meshgrid(np.arange(3) + 0.5, np.arange(2) + 0.5)), axis=2)
    turned = np.stack(grid.transform @ tuple(np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)), 2)
    np.testing.assert_allclose(turned, orientation.apply(stored), atol=1e-6)
    if angle % 45:  # else columns run as much to the north as to the east
        assert grid.transform.a > 0 and grid.transform.e < 0


def test_a_grid_without_georeference_stays():
    assert Grid.north_up(3, 2, None, None) == (Grid(3, 2), Orientation())


def test_a_window_lies_where_it_is_cut_out():
    part = Grid(100, 80, UTM, PLACE).window(10, 20, 30, 40)
    assert part == Grid(40, 30, UTM, Affine(10, 0, 500_200, 0, -10, 3_999_900)) and part.shape == (30, 40)
    assert Grid(100, 80).window(10, 20, 30, 40) == Grid(40, 30)


@pytest.mark.parametrize("crs, transform, expected", [
    (UTM, Affine(10, 0, 500_000, 0, -10, 4_000_000), (10.004, 10.004)),  # 0.9996 on the central meridian
    (UTM, Affine(10, 0, 500_000, 0, -20, 4_000_000), (10.004, 20.008)),
    (UTM, PLACE @ Affine.rotation(30), (10.004, 10.004)),
    (CRS.from_epsg(2229), Affine(10, 0, 6_561_666, 0, -10, 1_640_000), (3.048, 3.048)),  # US survey feet
    (CRS.from_string("EPSG:32652+5773"), PLACE, (10.004, 10.004)),
    (None, PLACE, None),
    (UTM, None, None),
    (LOCAL, PLACE, None),
    (UTM, Affine(10, 0, 1e9, 0, -10, 1e9), None),
])  # fmt: skip
def test_metres_per_pixel(crs, transform, expected):
    sides = Grid(20, 20, crs, transform).metres_per_pixel
    assert sides is None if expected is None else sides == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("latitude", [0, 45, -60])
def test_metres_per_pixel_of_degrees_are_those_of_the_ellipsoid(latitude):
    grid = Grid(10, 10, DEGREES, Affine(1e-4, 0, 130, 0, -1e-4, latitude))
    geod, middle = Geod(ellps="WGS84"), latitude - 5e-4
    width = geod.inv(130, middle, 131, middle)[2] / 1e4
    height = geod.inv(130, middle - 0.5, 130, middle + 0.5)[2] / 1e4
    assert grid.metres_per_pixel == pytest.approx((width, height), rel=1e-4)
    assert grid.pixel_size_metres == pytest.approx(math.sqrt(width * height), rel=1e-4)


def test_a_sampling_distance_gives_square_metres():
    grid = Grid(1000, 1000, DEGREES, Affine(1e-4, 0, 10, 0, -1e-4, 60))  # 5.6 m by 11.1 m
    coarse = grid.at_sampling_distance(20, "a.tif")
    assert coarse.metres_per_pixel == pytest.approx((20, 20), rel=5e-3)
    np.testing.assert_allclose(coarse.outline(), grid.outline())
    assert grid.at_sampling_distance(None, "a.tif") is grid
    for grid in (Grid(10, 10), Grid(10, 10, None, PLACE), Grid(10, 10, LOCAL, PLACE)):
        with pytest.raises(ConfigError, match=r"a\.tif does not say how large its pixels are .*leave --gsd out"):
            grid.at_sampling_distance(20, "a.tif")
    for distance in (0, -1, math.inf, math.nan):
        with pytest.raises(ConfigError, match="give metres per pixel"):
            grid.at_sampling_distance(distance, "a.tif")
    with pytest.raises(DataError, match=r"a\.tif has \d+ pixels per row, more than"):
        Grid(100_000, 10, UTM, PLACE).at_sampling_distance(1, "a.tif")


def test_the_outline_runs_along_the_edges():
    outline = Grid(4, 2, UTM, Affine.scale(10)).outline(2)
    expected = [(0, 0), (20, 0), (40, 0), (40, 10), (40, 20), (20, 20), (0, 20), (0, 10)]
    np.testing.assert_allclose(outline, expected)


def test_turns_of_the_globe():
    np.testing.assert_allclose(nearest_turn(np.array([-170.0, 170, 530, -190]), 175, 360), [190, 170, 170, 170])


def test_how_far_two_grids_are_apart():
    names = ("a.tif", "b.tif")
    grid = Grid(100, 80, UTM, PLACE)
    assert largest_offset(grid, grid, names) == 0
    assert largest_offset(grid, Grid(100, 80, UTM, PLACE @ Affine.translation(0.25, -3)), names) == pytest.approx(3)
    assert largest_offset(grid, Grid(100, 80, UTM, PLACE @ Affine.scale(1.02)), names) == pytest.approx(2)
    assert largest_offset(grid, Grid(100, 80, None, PLACE), names) == 0
    degrees = Grid(100, 80, DEGREES, Affine(1e-4, 0, -100, 0, -1e-4, 40))
    around = Grid(100, 80, DEGREES, Affine(1e-4, 0, 260, 0, -1e-4, 40))
    assert largest_offset(degrees, around, names) == pytest.approx(0, abs=1e-6)
    assert largest_offset(grid, degrees, names) > 1e5
    with pytest.raises(
        DataError, match=r"The local coordinate system of b\.tif cannot be transformed to that of a\.tif"
    ):
        largest_offset(grid, Grid(100, 80, LOCAL, PLACE), names)
