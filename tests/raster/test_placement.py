import numpy as np
import pytest
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
    (around(MERCATOR, 129, 36, 20, 80), around(ZONE_52, 129, 36, 10, 90)),
    (Grid(80, 80, ZONE_52, Affine(17, 0, 33, 0, -17, 20)), grid(ZONE_52, (0, 0), size=(90, 64))),
    (Grid(80, 80, ZONE_52, Affine.rotation(30) @ Affine.scale(5, -5)), grid(ZONE_52, (0, 0), size=(90, 64))),
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


def test_a_grid_without_a_place_is_that_of_the_other_if_it_has_its_size():
    assert Placement(Grid(64, 64), grid(ZONE_52, (0, 0))).is_identity
    assert not Placement(Grid(64, 65), grid(ZONE_52, (0, 0))).is_identity


def test_more_than_half_a_pixel_is_resampled():
    placement = Placement(grid(ZONE_52, (0, 0)), grid(ZONE_52, (6, 0)))
    assert not placement.is_identity
    assert placement.coordinates(0, 0, 1, 2)[0].tolist() == [[1.1, 2.1]]


def test_a_shift_moves_content_down_and_right():
    placement = Placement(grid(ZONE_52, (0, 0)), grid(ZONE_52, (0, 0)), (2.0, 3.0))
    assert not placement.is_identity
    columns, rows = placement.coordinates(10, 20, 1, 1)
    assert (columns.item(), rows.item()) == (17.5, 8.5)  # what is at pixel (8, 17) of the file appears at (10, 20)


@pytest.mark.parametrize(
    "pixel, reduction", [((10, 10), (1, 1)), ((25, 10), (3, 1)), ((14, 41), (1, 4)), ((7, 3), (1, 1))]
)
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


def test_where_projections_bend_pixels_are_placed_one_by_one():
    """A world map: interpolation between far places would be wrong by pixels."""
    world = Grid(360, 180, DEGREES, Affine(1, 0, -180, 0, -1, 90))
    polar = around(POLAR, 0, 90, 40_000, 200)
    columns, rows = Placement(world, polar).coordinates(0, 0, 200, 200)
    expected_columns, expected_rows = exact(world, polar)
    np.testing.assert_allclose(rows, expected_rows, atol=2e-3)
    turn = np.abs(columns - expected_columns)
    np.testing.assert_allclose(np.minimum(turn, 360 - turn), 0, atol=0.05)


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


def test_the_share_that_is_covered():
    target = Grid(90, 70, ZONE_52, Affine(10, 0, 500_000, 0, -10, 4_000_000))
    assert Placement(Grid(45, 70, ZONE_52, target.transform), target).covered == pytest.approx(0.5, abs=0.02)
    assert Placement(Grid(45, 35, ZONE_53, target.transform), target).covered == 0


def test_there_is_no_way_from_a_local_system():
    with pytest.raises(DataError, match="local coordinate system of sar.tif .*give sar.tif"):
        Placement(grid(LOCAL, (0, 0)), grid(ZONE_52, (0, 0)), names=("sar.tif", "rgb.tif"))
    with pytest.raises(DataError, match="local coordinate system of rgb.tif .*give rgb.tif"):
        Placement(grid(ZONE_52, (0, 0)), grid(LOCAL, (0, 0)), names=("sar.tif", "rgb.tif"))
