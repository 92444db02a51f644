import numpy as np
import pytest
<<<<<<< HEAD
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
=======
from pyproj import Transformer
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, Placement
from tests.raster.grids import DEGREES, LOCAL, OTHER_POLAR, POLAR, WITH_HEIGHTS, ZONE_52, ZONE_53, corner_in

MERCATOR = CRS.from_epsg(3857)


def grid(crs, corner, pixel=10.0, size=(64, 64)):
    return Grid(*size, crs, Affine(pixel, 0, corner[0], 0, -pixel, corner[1]))


def around(crs, longitude, latitude, pixel, side):
    x, y = corner_in(crs, longitude, latitude)
    return grid(crs, (x - pixel * side / 2, y + pixel * side / 2), pixel, (side, side))


def exact(source, target, shift=(0.0, 0.0)):
    """Places of the centres of the target's pixels, by PROJ alone."""
    columns, rows = np.meshgrid(np.arange(target.width) + 0.5 - shift[1], np.arange(target.height) + 0.5 - shift[0])
    to_source = Transformer.from_crs(target.crs.to_wkt(), source.crs.to_wkt(), always_xy=True)
    return ~source.transform @ to_source.transform(*(target.transform @ (columns, rows)))


@pytest.mark.parametrize("source, target", [
    (around(ZONE_52, 129, 36, 10, 600), around(ZONE_53, 129, 36, 10, 600)),
    (around(ZONE_52, 129, 70, 1000, 300), around(ZONE_53, 129, 70, 1000, 300)),
    # Between maps that keep angles, what bends shows at the edges of a cell and not in its middle.
    (around(MERCATOR, 20, 82, 1000, 90), around(POLAR, 20, 82, 1000, 90)),
    (around(DEGREES, 129, 36, 1e-4, 600), around(ZONE_52, 129, 36, 10, 600)),
    (around(ZONE_52, 129, 36, 10, 600), around(DEGREES, 129, 36, 1e-4, 600)),
    (around(OTHER_POLAR, -45, 89.9, 1000, 90), around(POLAR, 0, 90, 1000, 90)),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, -3.5)])
def test_places_are_those_of_proj(source, target, shift):
    placement = Placement(source, target, shift)
    found = np.stack(placement.coordinates(0, 0, target.height, target.width))
    truth = np.stack(exact(source, target, shift))
    assert np.abs(found - truth).max() < 0.003
    part = placement.coordinates(17, 33, 20, 51)
    np.testing.assert_array_equal(part, found[:, 17:37, 33:84])


@pytest.mark.parametrize("own, other", [
    (ZONE_52, ZONE_52),
    (ZONE_52, WITH_HEIGHTS),
    (ZONE_52, None),
    (None, None),
    (LOCAL, LOCAL),
])  # fmt: skip
@pytest.mark.parametrize("offset", [0.0, 4.0, -4.9])
def test_grids_that_are_less_than_half_a_pixel_apart_are_one(own, other, offset):
    placement = Placement(grid(own, (500_000, 4_000_000)), grid(other, (500_000 + offset, 4_000_000)))
    assert placement.is_identity and placement.covered == 1 and placement.reduction == (1, 1)
    columns, rows = placement.coordinates(3, 5, 2, 2)
    assert columns.tolist() == [[5.5, 6.5]] * 2 and rows.tolist() == [[3.5] * 2, [4.5] * 2]


def test_more_than_half_a_pixel_is_resampled():
    placement = Placement(grid(ZONE_52, (0, 0)), grid(ZONE_52, (6, 0)))
    assert not placement.is_identity
    assert placement.coordinates(0, 0, 1, 2)[0].tolist() == [[1.1, 2.1]]


def test_a_shift_moves_content_down_and_right():
    placement = Placement(grid(ZONE_52, (0, 0)), grid(ZONE_52, (0, 0)), (2.0, 3.0))
    assert not placement.is_identity
    columns, rows = placement.coordinates(10, 20, 1, 1)
    assert (columns.item(), rows.item()) == (17.5, 8.5)  # what is at pixel (8, 17) of the file appears at (10, 20)


@pytest.mark.parametrize("pixel, reduction", [((10, 10), (1, 1)), ((25, 10), (3, 1)), ((14, 41), (1, 4))])
def test_pixels_are_counted_along_each_axis(pixel, reduction):
    target = Grid(16, 8, ZONE_52, Affine(pixel[0], 0, 100, 0, -pixel[1], 600))
    placement = Placement(Grid(100, 100, ZONE_52, Affine(10, 0, 0, 0, -10, 1000)), target)
    assert placement.reduction == reduction
    assert placement.pixels == pytest.approx([size / 10 for size in pixel])


def test_pixels_of_a_turned_grid_are_counted_along_those_of_the_source():
    target = Grid(8, 8, ZONE_52, Affine(0, 40, 100, -10, 0, 900))  # columns run south
    assert Placement(grid(ZONE_52, (0, 1000), 10, (100, 100)), target).reduction == (4, 1)


@pytest.mark.parametrize("west", [179.95, -180.05, 539.95])
@pytest.mark.parametrize("target", [
    around(CRS.from_epsg(32601), 180, 60, 100, 64),
    around(CRS.from_epsg(32660), 180, 60, 100, 64),
    Grid(64, 64, DEGREES, Affine(1e-3, 0, 179.97, 0, -1e-3, 60.03)),
    Grid(64, 64, DEGREES, Affine(1e-3, 0, -180.03, 0, -1e-3, 60.03)),
    around(POLAR, 180, 60, 100, 64),
], ids=str)  # fmt: skip
def test_longitudes_are_angles(west, target):
    source = Grid(1000, 1000, DEGREES, Affine(1e-4, 0, west, 0, -1e-4, 60.05))
    placement = Placement(source, target)
    assert placement.covered > 0.7
    columns, rows = placement.coordinates(32, 32, 1, 1)
    assert columns.item() == pytest.approx(500, abs=30) and rows.item() == pytest.approx(500, abs=30)


def test_a_whole_globe_is_the_same_grid_as_itself():
    rounded = Affine(0.00833333333334, 0, -180, 0, -0.00833333333334, 90)  # 43200 of these are more than one turn
    globe = Grid(43200, 21600, DEGREES, rounded)
    turned = Grid(43200, 21600, DEGREES, Affine.translation(360, 0) @ rounded)
    assert Placement(globe, globe).is_identity and Placement(turned, globe).is_identity
    half = Grid(43200, 21600, DEGREES, Affine.translation(180, 0) @ rounded)
    assert not Placement(half, globe).is_identity


def test_a_pole_is_a_place_as_any_other():
    source = Grid(3600, 100, DEGREES, Affine(0.1, 0, -180, 0, -0.1, 90))
    placement = Placement(source, around(POLAR, 0, 90, 2000, 100))
    assert placement.covered == 1
    columns, rows = placement.coordinates(0, 0, 100, 100)
    truth = exact(source, around(POLAR, 0, 90, 2000, 100))
    np.testing.assert_allclose(rows, truth[1], atol=0.003)
    np.testing.assert_allclose(columns, truth[0], atol=0.003)


def test_what_has_no_place_in_the_source_is_outside():
    orthographic = CRS.from_proj4("+proj=ortho +lat_0=0 +lon_0=0 +ellps=WGS84")
    globe = Grid(360, 180, DEGREES, Affine(1, 0, -180, 0, -1, 90))
    source = around(orthographic, 0, 0, 100_000, 140)
    placement = Placement(source, globe)
    columns, rows = placement.coordinates(0, 0, 180, 360)
    inside = placement.contains(columns, rows)
    assert inside[90, 180] and not inside[90, 5] and not inside[90, 355]
    assert 0.4 < inside.mean() < 0.6 and placement.covered == pytest.approx(inside.mean(), abs=0.05)


def test_there_is_no_way_from_a_local_system():
    with pytest.raises(DataError, match="local coordinate system of sar.tif .*give sar.tif"):
        Placement(grid(LOCAL, (0, 0)), grid(ZONE_52, (0, 0)), names=("sar.tif", "rgb.tif"))
    with pytest.raises(DataError, match="local coordinate system of rgb.tif .*give rgb.tif"):
        Placement(grid(ZONE_52, (0, 0)), grid(LOCAL, (0, 0)), names=("sar.tif", "rgb.tif"))
>>>>>>> cases
