import math

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform as transform_coordinates

from mm_ovseg.errors import DataError
from mm_ovseg.raster.crs import CoordinateTransform, full_turn, same_crs

UTM = CRS.from_epsg(32633)
DEGREES = CRS.from_epsg(4326)
LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
# As some programs write what they have no EPSG code for.
NAMED = CRS.from_wkt('LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1]]')
SHORT = CRS.from_wkt('LOCAL_CS["Lambert-93",UNIT["metre",1]]')
GRADS = CRS.from_epsg(4807)  # NTF (Paris), in grads


@pytest.mark.parametrize("first, second, expected", [
    (UTM, UTM, True),
    (UTM, CRS.from_wkt(UTM.to_wkt().replace("WGS 84 / UTM zone 33N", "my own")), True),
    (UTM, CRS.from_proj4("+proj=utm +zone=33 +datum=WGS84 +units=m"), True),
    (UTM, CRS.from_string("EPSG:32633+5773"), True),
    (DEGREES, CRS.from_user_input("OGC:CRS84"), True),  # the order of axes is not that of files
    (UTM, CRS.from_epsg(32634), False),
    (UTM, DEGREES, False),
    (UTM, None, False),
    (None, None, True),
    (CRS.from_epsg(2154), NAMED, True),
    (CRS.from_epsg(2154), SHORT, True),
    (LOCAL, LOCAL, True),
    (LOCAL, UTM, False),
])  # fmt: skip
def test_systems_are_compared_by_what_they_are(first, second, expected):
    assert same_crs(first, second) is same_crs(second, first) is expected


@pytest.mark.parametrize("code, expected", [
    (3857, 40_075_016.69), (6933, 34_735_060.89), (3832, 40_075_016.69), (4087, 40_075_016.69),
    (32652, None), (3413, None), (2154, None), (3035, None),
])  # fmt: skip
def test_maps_on_which_x_counts_longitudes_have_a_turn_too(code, expected):
    assert full_turn(CRS.from_epsg(code)) == (expected and pytest.approx(expected))
    assert full_turn(CRS.from_string("+proj=sinu +lon_0=0")) is None


def test_a_turn_of_the_globe_in_each_systems_unit():
    assert full_turn(DEGREES) == pytest.approx(360) and full_turn(GRADS) == pytest.approx(400)
    assert full_turn(UTM) is None and full_turn(None) is None and full_turn(LOCAL) is None
    assert full_turn(CRS.from_string("EPSG:4326+5773")) == pytest.approx(360)


@pytest.mark.parametrize("source, x, y", [
    (DEGREES, 14.3, 45.2),
    (CRS.from_epsg(32634), 30_000.0, 5_010_000.0),
    (CRS.from_epsg(3857), 1_600_000.0, 5_600_000.0),
    (CRS.from_string("EPSG:32633+5773"), 500_000.0, 5_000_000.0),
])  # fmt: skip
def test_coordinates_go_where_gdal_sends_them(source, x, y):
    found = CoordinateTransform(source, UTM)(np.array([x]), np.array([y]))
    expected = transform_coordinates(UTM if source.is_projected and same_crs(source, UTM) else source, UTM, [x], [y])
    np.testing.assert_allclose(np.ravel(found), np.ravel(expected), atol=1e-3)


def test_a_named_local_system_has_a_way(caplog):
    x, y = CoordinateTransform(NAMED, DEGREES)(np.array([700_000.0]), np.array([6_600_000.0]))
    np.testing.assert_allclose([x[0], y[0]], [3, 46.5], atol=1e-3)  # the origin of Lambert 93


def test_what_has_no_way_is_said_by_name():
    names = ("a.tif", "b.tif")
    for source, target, name in ((LOCAL, UTM, "a.tif"), (UTM, LOCAL, "b.tif")):
        with pytest.raises(DataError, match=rf"The local coordinate system of {name} cannot be transformed to that of"):
            CoordinateTransform(source, target, names=names)
    for source, target, name in ((None, UTM, "a.tif"), (UTM, None, "b.tif")):
        with pytest.raises(DataError, match=rf"^{name} has no coordinate reference system"):
            CoordinateTransform(source, target, names=names)
    assert CoordinateTransform(None, None).is_identity and CoordinateTransform(LOCAL, LOCAL).is_identity


def test_what_has_no_place_is_infinite():
    x, y = CoordinateTransform(DEGREES, UTM)(np.array([15.0]), np.array([100.0]))
    assert math.isinf(x[0]) and math.isinf(y[0])
