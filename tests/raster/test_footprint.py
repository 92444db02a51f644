from dataclasses import replace

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.raster import Grid
from mm_ovseg.raster.footprint import EARTH, common_pixel_size, footprints, overlap_shares, overlaps
from tests.raster.grids import (
    DEGREES,
    LOCAL,
    OTHER_POLAR,
    POLAR,
    RENAMED,
    WITH_HEIGHTS,
    ZONE_52,
    ZONE_53,
    corner_in,
    shared_ground,
    tiles,
)

CORNER = (720_000, 4_000_000)  # in zone 52, near zone 53
LONGITUDE, LATITUDE = 131.4444, 36.1170


def shares(*grids):
    """(index, index) -> share of the ground in common, of the pairs that have some."""
    places = footprints(grids)
    pairs = overlaps(places, places)
    found = zip(map(tuple, pairs.tolist()), overlap_shares(places, places, pairs), strict=True)
    return {(first, second): share for (first, second), share in found if first < second}


@pytest.mark.parametrize("other", [
    RENAMED,
    WITH_HEIGHTS,
    CRS.from_proj4("+proj=utm +zone=52 +datum=WGS84 +units=m"),
    CRS.from_proj4("+proj=tmerc +lon_0=129 +k=0.9996 +x_0=500000 +datum=WGS84 +units=m"),
])  # fmt: skip
def test_one_system_however_it_is_spelled(other):
    (first,), (second,) = tiles(ZONE_52, CORNER), tiles(other, CORNER)
    assert shares(first, second)[0, 1] == pytest.approx(1, abs=1e-6)
    (half,) = tiles(other, (CORNER[0] + 80, CORNER[1]))
    assert shares(first, half)[0, 1] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("crs, pixel, least", [
    (ZONE_53, 10, 0.9),
    (DEGREES, 1e-4, 0.85),
    (CRS.from_epsg(3857), 12.4, 0.85),  # Web Mercator, 24% larger there
    (CRS.from_user_input("ESRI:54009"), 10, 0.5),  # Mollweide, which shears
])  # fmt: skip
def test_one_place_in_two_systems(crs, pixel, least):
    first = tiles(ZONE_52, corner_in(ZONE_52, LONGITUDE, LATITUDE), size=64)[0]
    second = tiles(crs, corner_in(crs, LONGITUDE, LATITUDE), size=64, pixel=pixel)[0]
    assert least < shares(first, second)[0, 1] <= 1
    assert shared_ground([first], [second])


def test_equal_coordinates_in_two_zones_are_two_places():
    assert shares(*tiles(ZONE_52, CORNER), *tiles(ZONE_53, CORNER)) == {}


@pytest.mark.parametrize("crs, corner, pixel", [
    (ZONE_52, CORNER, 10),
    (ZONE_52, CORNER, 0.3),
    (DEGREES, (LONGITUDE, LATITUDE), 1e-4),
    (DEGREES, (179.99, 70), 1e-3),  # from 70 degrees north on pixels are three times as high as wide
    (POLAR, (-300, 300), 10),
    (None, (5, 5), 1),
])  # fmt: skip
def test_neighbours_share_an_edge_and_no_ground(crs, corner, pixel):
    assert shares(*tiles(crs, corner, columns=4, rows=4, pixel=pixel)) == {}
    # A third of a pixel is rounding, one pixel is not.
    assert shares(*tiles(crs, corner, columns=2, pixel=pixel, overlap=0.3)) == {}
    assert shares(*tiles(crs, corner, columns=2, pixel=pixel, overlap=1)).keys() == {(0, 1)}
    assert shares(*tiles(crs, corner, rows=2, pixel=pixel, overlap=1)).keys() == {(0, 1)}


def test_tiles_one_pixel_wide():
    first = Grid(1, 16, ZONE_52, Affine(10, 0, CORNER[0], 0, -10, CORNER[1]))
    beside = replace(first, transform=first.transform @ Affine.translation(1, 0))
    assert shares(first, beside) == {} and shares(first, first)[0, 1] == 1


@pytest.mark.parametrize("west", [179.95, -180.05, 539.95])
def test_longitudes_are_angles(west):
    (first,) = tiles(DEGREES, (179.95, 10), pixel=0.01)
    (second,) = tiles(DEGREES, (west, 10), pixel=0.01)
    assert shares(first, second)[0, 1] == pytest.approx(1)
    (far,) = tiles(DEGREES, (west + 180, 10), pixel=0.01)
    assert shares(first, far) == {}


def test_the_antimeridian_in_two_zones():
    first, second = CRS.from_epsg(32660), CRS.from_epsg(32601)
    grids = [tiles(crs, corner_in(crs, 179.99, -17), size=256)[0] for crs in (first, second)]
    assert 0.9 < shares(*grids)[0, 1] < 1


def test_the_pole_is_a_place_as_any_other():
    one, other = tiles(POLAR, (-320, 320), size=64) + tiles(OTHER_POLAR, (-320, 320), size=64)
    assert 0.8 < shares(one, other)[0, 1] < 1  # two squares around the pole, 45 degrees apart
    cap = Grid(3600, 50, DEGREES, Affine(0.1, 0, -180, 0, -0.1, 90))
    other_cap = Grid(3600, 50, DEGREES, Affine(0.1, 0, 0, 0, -0.1, 90))
    south = Grid(3600, 50, DEGREES, Affine(0.1, 0, 0, 0, -0.1, -85))
    found = shares(one, cap, other_cap, south)
    assert found.keys() == {(0, 1), (0, 2), (1, 2)} and min(found.values()) > 0.99
    wedge = Grid(900, 50, DEGREES, Affine(0.1, 0, 10, 0, -0.1, 90))
    assert shares(one, wedge)[0, 1] == pytest.approx(0.25, abs=0.01)


def test_areas_are_those_of_the_ellipsoid():
    globe = Grid(360, 180, DEGREES, Affine(1, 0, -180, 0, -1, 90))
    (place,) = footprints([globe])
    assert place.outline.area == pytest.approx(5.1006562e14, rel=1e-3)
    # True even where other places force the plane's centre to be far away.
    here, *others = footprints([*tiles(ZONE_52, CORNER), globe, *tiles(CRS.from_epsg(32721), (500_000, 6_000_000))])
    assert here.outline.area == pytest.approx(footprints(tiles(ZONE_52, CORNER))[0].outline.area, rel=1e-5)
    assert here.pixel == pytest.approx(9.998, abs=0.001) and others[1].pixel == pytest.approx(10.004, abs=0.001)


def test_places_all_around_the_globe():
    generator = np.random.default_rng(0)
    corners = zip(generator.uniform(-180, 180, 300), generator.uniform(-88, 88, 300), strict=True)
    grids = [grid for corner in corners for grid in tiles(DEGREES, corner, columns=2, pixel=1e-3)]
    copies = [replace(grid, transform=Affine.translation(360, 0) @ grid.transform) for grid in grids]
    found = shares(*grids, *copies)
    assert found.keys() == {(index, index + len(grids)) for index in range(len(grids))}
    assert min(found.values()) > 0.999


def test_what_has_no_place_on_the_earth():
    plain = Grid(9, 9, None, None)
    unplaced = Grid(9, 9, ZONE_52, None)
    beyond = Grid(9, 9, DEGREES, Affine(1, 0, 0, 0, -1, 500))
    flat = Grid(9, 9, ZONE_52, Affine(1, 1, 0, 1, 1, 0))
    assert footprints([plain, None, unplaced, beyond, flat]) == [None] * 5
    assert footprints([]) == []
    found = footprints([beyond, *tiles(ZONE_52, CORNER)])
    assert found[0] is None and found[1].plane == EARTH


def test_systems_that_nothing_relates_to_the_earth_compare_among_themselves_only():
    elsewhere = CRS.from_wkt('LOCAL_CS["another site",UNIT["metre",1]]')
    corner = (0, 100)
    grids = [tiles(crs, corner)[0] for crs in (LOCAL, LOCAL, elsewhere, None, None, ZONE_52)]
    assert shares(*grids) == {(0, 1): 1, (3, 4): 1}


def test_the_size_of_pixels_in_metres():
    def size(*grids):
        return common_pixel_size(footprints(grids))

    assert size(*tiles(ZONE_52, (500_000, 4_000_000), columns=3, pixel=0.5)) == 0.5
    # At 62 degrees north a pixel of this many degrees is 6.9 m by 14.6 m.
    assert size(*tiles(DEGREES, (25, 62), pixel=0.000131)) == pytest.approx((6.87 * 14.6) ** 0.5, rel=0.01)
    feet = CRS.from_epsg(2263)  # New York, in feet
    assert size(*tiles(feet, (990_000, 200_000), pixel=10)) == 3.05
    assert size(*tiles(ZONE_52, CORNER), *tiles(ZONE_52, CORNER, pixel=11)) is None
    assert size(*tiles(ZONE_52, CORNER), *tiles(None, CORNER)) is None
    assert size(*tiles(LOCAL, CORNER)) is None and size(Grid(9, 9, ZONE_52, None)) is None and size() is None
