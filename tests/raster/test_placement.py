import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as transform_coordinates

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, Placement

UTM = CRS.from_epsg(32633)
OTHER_ZONE = CRS.from_epsg(32634)
DEGREES = CRS.from_epsg(4326)
LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
RGB = Grid(90, 70, UTM, PLACE)


def places(source, target):
    """Where the centres of the target lie among the pixels of the source, by GDAL's transformation of each."""
    columns, rows = np.meshgrid(np.arange(target.width) + 0.5, np.arange(target.height) + 0.5)
    x, y = target.transform @ (columns.ravel(), rows.ravel())
    x, y = map(np.array, transform_coordinates(target.crs, source.crs, x, y))
    return [axis.reshape(target.shape) for axis in ~source.transform @ (x, y)]


@pytest.mark.parametrize("source", [
    Grid(80, 80, UTM, PLACE @ Affine.translation(3.3, -2) @ Affine.scale(1.7)),
    Grid(80, 80, UTM, PLACE @ Affine.rotation(30) @ Affine.scale(0.5)),
    Grid(80, 80, OTHER_ZONE, Affine(12, 0, 28_300, 0, -12, 5_017_600)),
    Grid(80, 80, DEGREES, Affine(1e-4, 0, 14.999, 0, -1e-4, 45.155)),
    Grid(80, 80, CRS.from_epsg(3857), Affine(20, 0, 1_669_700, 0, -20, 5_645_000)),
    Grid(80, 80, CRS.from_epsg(3035), Affine(2000, 0, 4_500_000, 0, -2000, 2_600_000)),
])  # fmt: skip
def test_every_pixel_is_where_gdal_puts_it(source):
    placement = Placement(source, RGB)
    found = placement.coordinates(0, 0, 70, 90)
    for axis, expected in zip(found, places(source, RGB), strict=True):
        np.testing.assert_allclose(axis, expected, atol=5e-3)
    part = placement.coordinates(11, 37, 40, 50)
    for axis, whole in zip(part, found, strict=True):
        np.testing.assert_array_equal(axis, whole[11:51, 37:87])
    assert not placement.is_identity


def test_where_projections_bend_pixels_are_placed_one_by_one():
    """A world map: interpolation between far places would be wrong by pixels."""
    world = Grid(360, 180, DEGREES, Affine(1, 0, -180, 0, -1, 90))
    polar = Grid(200, 200, CRS.from_epsg(3995), Affine(40_000, 0, -4_000_000, 0, -40_000, 4_000_000))
    columns, rows = Placement(world, polar).coordinates(0, 0, 200, 200)
    expected_columns, expected_rows = places(world, polar)
    np.testing.assert_allclose(rows, expected_rows, atol=2e-3)
    turn = np.abs(columns - expected_columns)
    np.testing.assert_allclose(np.minimum(turn, 360 - turn), 0, atol=0.05)


@pytest.mark.parametrize("other, expected", [
    (RGB, True),
    (Grid(90, 70), True),
    (Grid(90, 70, None, PLACE), True),
    (Grid(90, 70, CRS.from_string("EPSG:32633+5773"), PLACE), True),
    (Grid(90, 70, UTM, PLACE @ Affine.translation(0.3, 0.3)), True),  # within half a pixel, as for pairs
    (Grid(90, 70, UTM, PLACE @ Affine.translation(0.7, 0)), False),
    (Grid(90, 71, UTM, PLACE), False),
])  # fmt: skip
def test_one_grid_is_not_resampled(other, expected):
    assert Placement(other, RGB).is_identity is expected
    assert not Placement(other, RGB, shift=(0.0, 1.0)).is_identity


def test_content_is_moved_down_and_right_by_a_shift():
    for source in (RGB, Grid(90, 80, UTM, PLACE @ Affine.translation(0, -4))):
        columns, rows = Placement(source, RGB, shift=(2.5, -3.0)).coordinates(10, 20, 1, 1)
        plain = Placement(source, RGB).coordinates(10, 20, 1, 1)
        assert columns[0, 0] == plain[0][0, 0] + 3 and rows[0, 0] == plain[1][0, 0] - 2.5


def test_longitudes_are_angles():
    target = Grid(40, 30, DEGREES, Affine(0.005, 0, 179.9, 0, -0.005, 10))
    for west in (-180.1, 179.9, 539.9):
        placement = Placement(Grid(40, 30, DEGREES, Affine(0.005, 0, west, 0, -0.005, 10)), target)
        assert placement.is_identity and placement.covered == 1
        finer = Placement(Grid(80, 60, DEGREES, Affine(0.0025, 0, west, 0, -0.0025, 10)), target)
        columns, rows = finer.coordinates(0, 0, 30, 40)
        np.testing.assert_allclose(columns[0], 2 * np.arange(40) + 1, atol=1e-6)
        assert finer.covered == 1


@pytest.mark.parametrize("target", [
    Grid(100, 80, DEGREES, Affine(1e-4, 0, -180.005, 0, -1e-4, -16)),
    Grid(100, 80, DEGREES, Affine(1e-4, 0, 179.995, 0, -1e-4, -16)),
    Grid(100, 80, CRS.from_epsg(32760), Affine(10, 0, 820_000, 0, -10, 8_228_000)),
    Grid(100, 80, CRS.from_epsg(3857), Affine(10, 0, -20_038_000, 0, -10, -1_806_000)),
])  # fmt: skip
def test_mercators_map_goes_on_beyond_the_antimeridian(target):
    edge = 20_037_508.342789
    source = Grid(600, 600, CRS.from_epsg(3857), Affine(10, 0, edge - 3000, 0, -10, -1_803_000))
    placement = Placement(source, target)
    columns, rows = placement.coordinates(0, 0, 80, 100)
    assert placement.covered == 1 and placement.contains(columns, rows).all()
    assert (np.diff(columns, axis=1) > 0).all()  # west to east, across the edge


@pytest.mark.parametrize("scale, pixels, reduction", [
    ((1, 1), (1, 1), (1, 1)),
    ((0.25, 0.25), (4, 4), (4, 4)),
    ((0.5, 1), (2, 1), (2, 1)),
    ((1.4, 3), (1 / 1.4, 1 / 3), (1, 1)),
    ((0.4, 0.4), (2.5, 2.5), (3, 3)),
])  # fmt: skip
def test_how_many_pixels_of_the_source_one_of_the_target_spans(scale, pixels, reduction):
    source = Grid(400, 400, UTM, PLACE @ Affine.translation(0.1, 0.1) @ Affine.scale(*scale))
    placement = Placement(source, RGB)
    assert placement.pixels == pytest.approx(pixels, rel=1e-6) and placement.reduction == reduction


def test_the_share_that_is_covered():
    assert Placement(Grid(45, 70, UTM, PLACE), RGB).covered == pytest.approx(0.5, abs=0.02)
    assert Placement(Grid(45, 35, OTHER_ZONE, PLACE), RGB).covered == 0


@pytest.mark.parametrize("source, words", [
    (Grid(9, 9, LOCAL, PLACE), r"no way from the local coordinate system of sar\.tif to that of rgb\.tif"),
])  # fmt: skip
def test_what_has_no_way_to_the_other_says_which_file_it_is(source, words):
    with pytest.raises(DataError, match=words):
        Placement(source, RGB, names=("sar.tif", "rgb.tif"))
    with pytest.raises(DataError, match=r"sar\.tif"):
        Placement(RGB, source, names=("rgb.tif", "sar.tif"))
