"""Where scenes are on the browser's map."""

import numpy as np
import pytest
from pyproj import Transformer
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.transform import from_origin

from mm_ovseg.app.place import Place
from mm_ovseg.raster import Grid


def place(crs="EPSG:32633", left=500_000, top=5_000_000, pixel=10, width=96, height=64):
    return Place(Grid(width, height, CRS.from_user_input(crs), from_origin(left, top, pixel, pixel)))


def test_a_scene_in_utm_has_bounds_a_zoom_and_pixels():
    scene = place()
    (south, west), (north, east) = scene.bounds
    to_degrees = Transformer.from_crs("EPSG:32633", "OGC:CRS84", always_xy=True).transform
    corners = np.array([to_degrees(x, y) for x in (500_000, 500_960) for y in (5_000_000, 4_999_360)])
    assert np.allclose((west, east), (corners[:, 0].min(), corners[:, 0].max()), atol=1e-7)
    assert np.allclose((south, north), (corners[:, 1].min(), corners[:, 1].max()), atol=1e-7)
    # 156,543 m at the equator at zoom 0, and 10 m at 45 degrees are 14.2 m of it.
    assert scene.native_zoom == 14
    for row, column in ((0, 0), (10, 90), (63, 95)):
        longitude, latitude = to_degrees(500_005 + 10 * column, 4_999_995 - 10 * row)
        assert scene.pixel_at(latitude, longitude) == (row, column)
        assert scene.pixel_at(latitude, longitude + 360) == (row, column)
    assert scene.pixel_at(north + 0.01, west) is None and scene.pixel_at(-latitude, longitude) is None
    assert scene.coordinates(0, 1) == "EPSG:32633 500015 4999995"


def test_a_rectangle_is_a_window():
    scene = place()
    to_degrees = Transformer.from_crs("EPSG:32633", "OGC:CRS84", always_xy=True).transform
    (west, north), (east, south) = to_degrees(500_203, 4_999_897), to_degrees(500_398, 4_999_705)
    expected = 10, 20, 20, 20
    for corners in ([[south, west], [north, east]], [[north, east], [south, west]]):
        assert np.abs(np.subtract(scene.window_of_area(corners), expected)).max() <= 1
    assert scene.window_of_area([[-90, -180], [90, 180]]) in ((0, 0, 64, 96), None)
    assert scene.window_of_area([[north + 1, west], [north + 2, east]]) is None
    assert scene.window_of_pixels([[-5, 3.5], [10.2, 1000]]) == (3, 0, 61, 11)
    assert scene.window_of_pixels([[96, 0], [100, 10]]) is None


def test_across_the_date_line():
    scene = place("EPSG:4326", 179.5, 10, 0.01, width=100)
    (_, west), (_, east) = scene.bounds
    assert (west, east) == pytest.approx((179.5, 180.5))
    assert scene.pixel_at(9.995, -179.505) == scene.pixel_at(9.995, 180.495) == (0, 99)
    assert scene.coordinates(0, 0) == "EPSG:4326 179.505000 9.995000"
    assert scene.window_of_area([[9.5, 179.9], [10, 180.1]])[1:] == pytest.approx((40, 50, 20), abs=1)


@pytest.mark.parametrize("grid", [
    Grid(300, 1000),
    Grid(300, 1000, None, from_origin(500_000, 5_000_000, 10, 10)),
    Grid(300, 1000, CRS.from_epsg(32633)),
    Grid(300, 1000, CRS.from_epsg(3031), from_origin(0, 0, 10, 10)),  # at the South Pole, which Web Mercator has not
    Grid(300, 1000, CRS.from_wkt('LOCAL_CS["RGF93 / Lambert-93",UNIT["metre",1]]'), from_origin(7e5, 6.6e6, 10, 10)),
    Grid(300, 1000, CRS.from_wkt('ENGCRS["local",EDATUM["here"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'), Affine.identity()),  # fmt: skip  # noqa: E501
])  # fmt: skip
def test_other_scenes_are_shown_by_their_pixels(grid):
    scene = Place(grid)
    assert scene.bounds is None and not scene.is_on_map and scene.native_zoom == 2
    assert Place(Grid(256, 256)).native_zoom == Place(Grid(3, 1)).native_zoom == 0
