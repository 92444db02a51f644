from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from pyproj import CRS, Geod, Transformer
from rasterio import Affine

from mm_ovseg.errors import DataError
from mm_ovseg.inference import areas, write_class_map_geotiff
from mm_ovseg.inference.areas import Ellipsoid, measure_values, pixel_areas, read_class_map_info
from mm_ovseg.raster import Grid, RasterInfo
from mm_ovseg.raster.grid import Orientation

NAMES = ["city", "Wald, ö", "water"]
COLORS = [[200, 0, 0], [0, 120, 0], [0, 0, 255]]
WGS84 = Geod(ellps="WGS84")
UTM = Affine(10, 0, 500000, 0, -10, 4000000)


def write_map(path, class_map, crs, transform):
    write_class_map_geotiff(path, class_map, crs=crs, transform=transform, class_names=NAMES, colors=COLORS)
    return path


def measure(tmp_path, class_map, crs, transform):
    measured = measure_values(write_map(tmp_path / "map.tif", class_map, crs, transform))
    return [SimpleNamespace(**measured.of(value)) for value in range(len(NAMES))]


def zone(west, south, east, north):
    """Hectares between two meridians and two parallels."""
    steps = np.linspace(west, east, 2001)
    longitudes = np.concatenate([steps, steps[::-1]])
    latitudes = np.repeat([south, north], len(steps))
    return WGS84.polygon_area_perimeter(longitudes, latitudes)[0] / 10_000


def quarters():
    """City at the left; at the right, water above and nodata below."""
    class_map = np.zeros((700, 900), np.int64)
    class_map[:, 450:] = 2
    class_map[350:, 450:] = 255
    return class_map


def test_pixels_of_every_class_in_the_order_of_the_names(tmp_path):
    class_map = np.random.default_rng(0).choice([0, 2, 255], (1030, 1100), p=[0.5, 0.2, 0.3])
    city, forest, water = measure(tmp_path, class_map, "EPSG:32652", UTM)
    assert city.pixels == (class_map == 0).sum() and water.pixels == (class_map == 2).sum()
    assert (forest.pixels, forest.hectares) == (0, 0.0)


def test_a_map_that_is_stored_south_up_has_the_areas_of_its_own_rows(tmp_path):
    """Of degrees near the pole a pixel in the north is smaller than one in the south."""
    class_map, place = np.repeat([[0], [2]], 200, axis=0), Affine(0.01, 0, 10, 0, -0.02, 80)
    north = measure(tmp_path, np.repeat(class_map, 50, axis=1), "EPSG:4326", place)
    turned = place @ Affine(1, 0, 0, 0, -1, 400)
    south = measure(tmp_path, np.repeat(class_map[::-1], 50, axis=1), "EPSG:4326", turned)
    assert north[0].hectares < 0.8 * north[2].hectares
    assert [area.hectares for area in south] == pytest.approx([area.hectares for area in north], rel=1e-6)


def test_utm_is_right_to_its_scale_factor(tmp_path):
    # On the central meridian, lengths are 0.9996 of the true ones.
    city, _, water = measure(tmp_path, quarters(), "EPSG:32652", UTM)
    assert city.hectares == pytest.approx(700 * 450 * 0.01 / 0.9996**2, rel=1e-5)
    assert water.hectares == pytest.approx(350 * 450 * 0.01 / 0.9996**2, rel=1e-5)


@pytest.mark.parametrize("latitude", [0.0, 45.0, -60.0, 85.0])
@pytest.mark.parametrize("pixel", [1e-5, 1e-3])
def test_geographic_map_against_the_area_between_parallels(tmp_path, latitude, pixel):
    transform = Affine(pixel, 0, 20, 0, -pixel, latitude + 350 * pixel)
    city, _, water = measure(tmp_path, quarters(), "EPSG:4326", transform)
    south, north = latitude - 350 * pixel, latitude + 350 * pixel
    assert city.hectares == pytest.approx(zone(20, south, 20 + 450 * pixel, north), rel=1e-4)
    assert water.hectares == pytest.approx(zone(20 + 450 * pixel, latitude, 20 + 900 * pixel, north), rel=1e-4)


def test_a_map_of_the_whole_world(tmp_path):
    half_a_pixel_beyond_the_poles = Affine(0.5, 0, -180, 0, -180 / 360.5, 90.25)
    class_map = np.zeros((361, 720), np.int64)
    class_map[:, 360:] = 1
    east, west, _ = measure(tmp_path, class_map, "EPSG:4326", half_a_pixel_beyond_the_poles)
    assert east.hectares == pytest.approx(510.0656e8 / 2, rel=1e-3)
    assert west.hectares == pytest.approx(510.0656e8 / 2, rel=1e-3)


@pytest.mark.parametrize("pixel", [5, 300])
def test_web_mercator_at_60_degrees_north_is_four_times_too_large(tmp_path, pixel):
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(25, 60)
    city, _, water = measure(tmp_path, quarters(), "EPSG:3857", Affine(pixel, 0, x, 0, -pixel, y + 350 * pixel))
    to_degrees = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True).transform
    west, south = to_degrees(x, y - 350 * pixel)
    middle, _ = to_degrees(x + 450 * pixel, y)
    east, north = to_degrees(x + 900 * pixel, y + 350 * pixel)
    assert city.hectares == pytest.approx(zone(west, south, middle, north), rel=2e-4)
    assert water.hectares == pytest.approx(zone(middle, 60, east, north), rel=2e-4)
    if pixel == 5:
        assert city.hectares == pytest.approx(700 * 450 * pixel**2 / 10_000 / 4, rel=0.01)


@pytest.mark.parametrize(
    ("crs", "west"), [("EPSG:4326", 179.98), ("EPSG:4326", -180.02)], ids=["beyond 180", "beyond -180"]
)
def test_antimeridian_in_degrees(tmp_path, crs, west):
    city, _, water = measure(tmp_path, quarters(), crs, Affine(5e-5, 0, west, 0, -5e-5, -17))
    assert city.hectares == pytest.approx(zone(20, -17.035, 20.0225, -17), rel=1e-4)
    assert water.hectares == pytest.approx(zone(20, -17.0175, 20.0225, -17), rel=1e-4)


@pytest.mark.parametrize("crs", ["EPSG:3832", "EPSG:32760", "EPSG:32701"])
def test_antimeridian_in_metres(tmp_path, crs):
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(180, -17)
    scale = CRS(crs).get_geod().inv(180, -17, *Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y + 100))
    city, _, _ = measure(tmp_path, np.zeros((600, 600), np.int64), crs, Affine(5, 0, x - 1500, 0, -5, y + 1500))
    # Both projections are conformal, so 100 m on the map are equally long in all directions.
    assert city.hectares == pytest.approx(600 * 600 * 25 / 10_000 * (scale[2] / 100) ** 2, rel=5e-4)


def test_a_rotated_map_has_the_area_of_its_pixels(tmp_path):
    rotation = Affine.translation(500000, 4000000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    city, _, water = measure(tmp_path, quarters(), "EPSG:32652", rotation)
    assert city.hectares == pytest.approx(700 * 450 * 0.01 / 0.9996**2, rel=1e-4)
    assert water.hectares == pytest.approx(350 * 450 * 0.01 / 0.9996**2, rel=1e-4)


def test_systems_without_a_code(tmp_path):
    lambert = "+proj=laea +lat_0=10 +lon_0=-20 +x_0=7 +ellps=intl +units=us-ft"  # equal-area
    city, _, _ = measure(tmp_path, quarters(), lambert, Affine(10, 0, 0, 0, -10, 0))
    assert city.hectares == pytest.approx(700 * 450 * (10 * 1200 / 3937) ** 2 / 10_000, rel=1e-6)
    grads = measure(tmp_path, quarters(), "EPSG:4807", Affine(1e-4, 0, 2, 0, -1e-4, 50.035))[0]
    assert grads.hectares == pytest.approx(zone(2, 45 - 0.0315, 2.0405, 45.0315), rel=2e-4)  # 50 grads are 45 degrees


def test_degrees_about_a_shifted_pole():
    crs = rasterio.crs.CRS.from_string("+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=45 +lon_0=10 +R=6371000")
    # GeoTIFF cannot hold such a system, but other formats can.
    grid = Grid(10, 10, crs, Affine(0.01, 0, 0, 0, -0.01, 0))
    info = RasterInfo(None, grid, Orientation(), 1, ("uint8",), (None,), "transform")
    square = np.array([(0, 0), (0.1, 0), (0.1, 0.1), (0, 0.1)])
    assert Ellipsoid.of(info).areas(square) == pytest.approx((np.radians(0.1) * 6371000) ** 2, rel=1e-5)


def test_a_map_around_the_pole(tmp_path):
    city, _, _ = measure(tmp_path, np.zeros((600, 600), np.int64), "EPSG:3413", Affine(100, 0, -30000, 0, -100, 30000))
    # Polar stereographic, true at 70 degrees: at the pole, lengths are (1 + sin 70) / 2 of the true ones.
    assert city.hectares == pytest.approx(600 * 600 / ((1 + np.sin(np.radians(70))) / 2) ** 2, rel=1e-3)


LOCAL = 'LOCAL_CS["site plan",UNIT["metre",1]]'


@pytest.mark.parametrize(
    ("crs", "transform"),
    [(None, None), (None, UTM), ("EPSG:32652", None), (LOCAL, UTM)],
    ids=["no georeference", "no system", "no transform", "local system"],
)
def test_without_a_place_on_earth_there_are_pixels_but_no_hectares(tmp_path, crs, transform):
    result = measure(tmp_path, quarters(), crs and rasterio.crs.CRS.from_string(crs), transform)
    assert [(area.pixels, area.hectares) for area in result] == [(315000, None), (0, None), (157500, None)]


def test_classes_outside_of_what_the_projection_shows_have_no_hectares(tmp_path):
    # Orthographic: half of the Earth, a disk of 6378 km radius; the right column of blocks lies outside.
    ortho = "+proj=ortho +lat_0=0 +lon_0=0 +a=6378137 +b=6378137"
    class_map = np.zeros((16, 64), np.int64)
    class_map[:, 48:] = 1
    transform = Affine(160000, 0, 0, 0, -10000, 80000)
    city, forest, water = measure(tmp_path, class_map, ortho, transform)
    assert city.hectares is None and forest.hectares is None
    assert water.hectares == 0
    class_map[:, 32:] = 255
    city, forest, _ = measure(tmp_path, class_map, ortho, transform)
    assert city.hectares > 0
    assert (forest.pixels, forest.hectares) == (0, 0.0)


def test_maps_that_cannot_be_measured(tmp_path):
    path = tmp_path / "map.tif"
    with pytest.raises(DataError, match="map.tif does not exist"):
        measure_values(path)
    write_map(path, quarters(), "EPSG:32652", UTM)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="map.tif cannot be read"):
        measure_values(path)
    path.unlink()
    with rasterio.open(path, "w", driver="GTiff", width=2, height=2, count=1, dtype="float32") as file:
        file.write(np.zeros((1, 2, 2), np.float32))
    with pytest.raises(DataError, match="map.tif holds float32"):
        measure_values(path)


def test_a_system_that_pyproj_does_not_know_gives_no_hectares(tmp_path, monkeypatch):
    def fail(text):
        raise areas.ProjError("unknown")

    monkeypatch.setattr(areas.CRS, "from_wkt", fail)
    city, *_ = measure(tmp_path, quarters(), "EPSG:32652", UTM)
    assert (city.pixels, city.hectares) == (315000, None)


@pytest.mark.parametrize("shape", [(70, 90), (5, 9)])
def test_the_areas_of_single_pixels_add_up_to_those_of_the_classes(tmp_path, shape):
    class_map = np.random.default_rng(0).choice([0, 1, 2], shape)
    path = write_map(tmp_path / "map.tif", class_map, "EPSG:4326", Affine(0.005, 0, 10, 0, -0.05, 80))
    rows, columns = (index.ravel() for index in np.indices(shape))
    areas = pixel_areas(read_class_map_info(path), rows, columns)
    sums = np.bincount(class_map.ravel(), areas) / 10_000
    assert sums == pytest.approx([measure_values(path).of(value)["hectares"] for value in range(3)], rel=0.002)


def test_single_pixels_of_unknown_size(tmp_path):
    info = read_class_map_info(write_map(tmp_path / "map.tif", np.zeros((9, 9), int), None, UTM))
    assert np.isnan(pixel_areas(info, np.arange(3), np.arange(3))).all()
