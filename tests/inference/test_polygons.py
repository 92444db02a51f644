import sqlite3

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio import Affine

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.inference import polygons, write_class_map_geotiff
from mm_ovseg.inference.areas import measure_values
from mm_ovseg.inference.polygons import polygon_layer
from mm_ovseg.raster import geopackage
from mm_ovseg.raster.geopackage import write_geopackage
from tests.conftest import no_warnings

NAMES = ["city", "Wald, ö 森", 'it\'s "a"; DROP TABLE <b>&', "x" * 300]
COLORS = [[200, 0, 0], [0, 120, 0], [0, 0, 255], [9, 9, 9]]
UTM = Affine(10, 0, 500000, 0, -10, 4000000)
LOCAL = rasterio.crs.CRS.from_string('LOCAL_CS["site plan",UNIT["metre",1]]')
LAMBERT = rasterio.crs.CRS.from_string("+proj=laea +lat_0=10 +lon_0=-20 +x_0=7 +ellps=intl +units=us-ft")


def write_map(path, class_map, crs="EPSG:32652", transform=UTM):
    write_class_map_geotiff(path, np.asarray(class_map), crs=crs, transform=transform, class_names=NAMES, colors=COLORS)
    return path


def write_polygons(map_path, path, names, **options):
    [count] = write_geopackage(path, [polygon_layer(path.stem, map_path, dict(enumerate(names)), **options)])
    return count


def patches():
    """All four classes and nodata in patches of many sizes, with holes."""
    coarse = np.random.default_rng(0).choice([0, 1, 2, 3, 255], (12, 15))
    class_map = np.kron(coarse, np.ones((40, 40), np.int64))
    class_map[100:300, 200:500] = 0
    class_map[150:200, 250:400] = 1
    return class_map


def polygonize(tmp_path, class_map, *, options=(), **georeference):
    path = tmp_path / "polygons.gpkg"
    count = write_polygons(write_map(tmp_path / "map.tif", class_map, **georeference), path, NAMES, **dict(options))
    frame = pyogrio.read_dataframe(path)
    assert len(frame) == count
    return frame


def draw(frame, shape, transform):
    return rasterio.features.rasterize(
        zip(frame.geometry, frame.class_index, strict=True), out_shape=shape, transform=transform, fill=255
    )


def test_one_layer_of_named_classes(tmp_path):
    path = tmp_path / "new" / "my map.gpkg"
    class_map = [[0, 0, 1], [255, 2, 1], [3, 2, 2]]
    assert write_polygons(write_map(tmp_path / "map.tif", class_map), path, NAMES) == 4
    assert pyogrio.list_layers(path).tolist() == [["my map", "Polygon"]]
    info = pyogrio.read_info(path)
    assert dict(zip(info["fields"], info["ogr_types"], strict=True)) == {
        "class_index": "OFTInteger",
        "class_name": "OFTString",
        "area_ha": "OFTReal",
    }
    frame = pyogrio.read_dataframe(path).set_index("class_index").sort_index()
    assert frame.crs.to_epsg() == 32652
    assert list(frame.class_name) == NAMES
    pixel = 0.01 / 0.9996**2  # hectares on the central meridian
    assert list(frame.area_ha) == pytest.approx([2 * pixel, 2 * pixel, 3 * pixel, pixel])
    assert list(path.parent.iterdir()) == [path]


def test_pixels_that_touch_at_corners_only_are_apart(tmp_path):
    assert len(polygonize(tmp_path, [[0, 255], [255, 0]])) == 2
    assert len(polygonize(tmp_path, [[0, 0], [255, 0]])) == 1


@pytest.mark.parametrize("transform", [UTM, UTM @ Affine.rotation(30)], ids=["straight", "rotated"])
def test_polygons_drawn_again_are_the_map(tmp_path, transform):
    class_map = patches()
    frame = polygonize(tmp_path, class_map, transform=transform)
    assert (draw(frame, class_map.shape, transform) == class_map).all()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32652", Affine(2, 0, 700000, 0, -2, 6000000)),
        ("EPSG:4326", Affine(1e-3, 0, 179.8, 0, -1e-3, 60)),
        ("EPSG:3857", Affine(300, 0, 2782987, 0, -300, 8400000)),
        ("EPSG:32660", Affine(5, 0.5, 820000, 1, -5, 1000000)),
        (LAMBERT, UTM),
    ],
    ids=["utm", "antimeridian in degrees", "web mercator", "rotated across the antimeridian", "without a code"],
)
def test_areas_add_up_to_those_of_the_pixels(tmp_path, crs, transform):
    class_map = patches()
    class_map[400:] = 2  # one patch from side to side, whose straight edges are not geodesics
    sums = polygonize(tmp_path, class_map, crs=crs, transform=transform).groupby("class_index").area_ha.sum()
    measured = measure_values(tmp_path / "map.tif")
    assert list(sums) == pytest.approx([measured.of(value)["hectares"] for value in range(len(NAMES))], rel=1e-3)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2193", LAMBERT])
def test_the_reference_system_and_its_order_of_axes_are_the_maps(tmp_path, crs):
    transform = Affine(0.01, 0, 20, 0, -0.01, 60)
    features = polygonize(tmp_path, np.zeros((10, 20)).astype(int), crs=crs, transform=transform)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert tuple(features.total_bounds) == pytest.approx(tuple(dataset.bounds))
        assert len(features) == 1
        to_map = Transformer.from_crs(features.crs, dataset.crs.to_wkt(), always_xy=True)
    assert to_map.transform(20, 60) == pytest.approx((20, 60))


@pytest.mark.parametrize(
    ("georeference", "bounds"),
    [
        ({"crs": None, "transform": None}, (0, -2, 3, 0)),
        ({"crs": None}, (500000, 3999980, 500030, 4000000)),
        ({"crs": LOCAL}, (500000, 3999980, 500030, 4000000)),
    ],
    ids=["no georeference", "no system", "local system"],
)
@no_warnings
def test_without_a_place_on_earth_there_are_polygons_without_areas(tmp_path, georeference, bounds):
    frame = polygonize(tmp_path, [[1, 1, 1], [1, 1, 1]], **georeference)
    assert list(frame.area_ha.isna()) == [True]
    assert tuple(frame.total_bounds) == pytest.approx(bounds)


def test_an_old_file_is_replaced_be_it_by_an_empty_layer(tmp_path):
    assert len(polygonize(tmp_path, patches())) > 10
    assert len(polygonize(tmp_path, [[255]])) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "polygons.gpkg"}


def test_the_file_is_sound_and_has_no_journal_mode_of_its_own(tmp_path):
    polygonize(tmp_path, patches())
    connection = sqlite3.connect(tmp_path / "polygons.gpkg")
    assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
    connection.close()


def failing(error):
    def write(*arguments, **options):
        raise error

    return write


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), pyogrio.errors.DataSourceError("a\ntransaction"), KeyboardInterrupt()],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    path = tmp_path / "polygons.gpkg"
    path.write_text("old")
    source = write_map(tmp_path / "map.tif", patches())
    monkeypatch.setattr(pyogrio, "write_dataframe", failing(error))
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError
    with pytest.raises(expected) as caught:
        write_polygons(source, path, NAMES)
    if expected is DataError:
        assert f"{path} cannot be written" in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "polygons.gpkg"}


@pytest.mark.parametrize("options", [{}, {"min_area": 0.5}, {"simplify": 1.0}])
def test_a_map_that_is_stored_south_up_lies_where_it_says(tmp_path, options):
    class_map = patches()
    turned = UTM @ Affine(1, 0, 0, 0, -1, len(class_map))
    frames = [
        polygonize(tmp_path, stored, transform=transform, options=options.items())
        for stored, transform in ((class_map, UTM), (class_map[::-1], turned))
    ]
    north, south = (draw(frame, class_map.shape, UTM) for frame in frames)
    assert (north == south).mean() > 0.999  # of equal neighbours a small patch may go to either


def test_maps_that_cannot_be_outlined(tmp_path):
    source, path = tmp_path / "map.tif", tmp_path / "polygons.gpkg"
    with pytest.raises(DataError, match="map.tif does not exist"):
        write_polygons(source, path, NAMES)
    write_map(source, patches())
    with pytest.raises(DataError, match=f"{source} holds the values 3, for which it has no class names"):
        write_polygons(source, path, NAMES[:3])
    content = write_map(source, patches()).read_bytes()
    source.write_bytes(content[:300] + bytes(200) + content[500:])  # where the first tile begins
    with pytest.raises(DataError, match="map.tif cannot be read"):
        write_polygons(source, path, NAMES)
    assert list(tmp_path.iterdir()) == [source]


def test_unwritable_places_are_data_errors_that_name_the_file(tmp_path):
    source = write_map(tmp_path / "map.tif", [[0]])
    (tmp_path / "folder.gpkg" / "inside").mkdir(parents=True)
    for path in (source / "polygons.gpkg", tmp_path / "folder.gpkg"):
        with pytest.raises(DataError, match=f"{path} cannot be written"):
            write_polygons(source, path, NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "folder.gpkg"}


def test_many_polygons_are_written_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(polygons, "POLYGONS_AT_ONCE", 7)
    class_map = patches()
    frame = polygonize(tmp_path, class_map)
    assert len(frame) > 20
    assert (draw(frame, class_map.shape, UTM) == class_map).all()


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pyogrio, "write_dataframe", failing(pyogrio.errors.FeatureError("database or disk is full")))
    monkeypatch.setattr(geopackage.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    source = write_map(tmp_path / "map.tif", [[0]])
    with pytest.raises(DataError, match="No space left on device"):
        write_polygons(source, tmp_path / "polygons.gpkg", NAMES)
    assert list(tmp_path.iterdir()) == [source]


def salted(edge=120):
    """Four fields with single pixels of other classes strewn over them, and a stripe of nodata."""
    random = np.random.default_rng(1)
    fields = np.kron([[0, 1], [2, 3]], np.ones((edge // 2, edge // 2), np.int64))
    fields[:, 30:40] = 255
    salt = np.where(fields == 255, 255, random.choice(4, fields.shape))
    class_map = np.where(random.random(fields.shape) < 0.05, salt, fields)
    class_map[:3, 31:34] = 1  # an island of nine pixels between nodata, and the edge of the map
    return fields, class_map


def test_a_least_area_as_large_as_the_map_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--min-area is 1000 ha, but the map has only \d+(\.\d+)?; give less\."):
        polygonize(tmp_path, salted()[1], options={"min_area": 1000.0})
    assert not list(tmp_path.glob("*.gpkg"))


def test_patches_below_the_least_area_join_their_largest_neighbour(tmp_path):
    fields, class_map = salted()
    whole = polygonize(tmp_path, class_map)
    frame = polygonize(tmp_path, class_map, options={"min_area": 0.2})
    assert len(whole) > 300 and len(frame) == 7  # fields 0 and 2 are separated by nodata
    drawn = draw(frame, class_map.shape, UTM)
    assert ((drawn == 255) == (class_map == 255)).all()
    assert (drawn[:3, 31:34] == 1).all()
    inside = fields != 255
    assert (drawn == fields)[inside].mean() > 0.99
    assert frame.area_ha.nsmallest(2).tolist() == pytest.approx([0.09, 12], rel=5e-3)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read(1) == class_map).all()


def test_patches_of_just_the_least_area_stay(tmp_path):
    class_map = np.zeros((9, 9), np.int64)
    class_map[1, 1:3], class_map[5, 1:4] = 1, 2
    frame = polygonize(tmp_path, class_map, crs="EPSG:6933", options={"min_area": 0.03})  # an equal-area system
    assert sorted(frame.class_index) == [0, 2]


@pytest.mark.parametrize("georeference", [{}, {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 30, 0, -1e-4, 1)}])
def test_simplified_neighbours_keep_a_common_border(tmp_path, georeference):
    class_map = np.where(np.add.outer(np.arange(80), np.arange(80)) < 80, 0, 1)
    class_map[20:60, 20:60] = np.where(np.hypot(*np.mgrid[-20:20, -20:20]) < 19, 2, class_map[20:60, 20:60])
    class_map[70:, :10] = 255
    stairs = polygonize(tmp_path, class_map, **georeference)
    frame = polygonize(tmp_path, class_map, options={"simplify": 20}, **georeference)
    assert len(frame) == len(stairs) == 3 and frame.is_valid.all()
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    assert frame.count_coordinates().sum() < stairs.count_coordinates().sum() / 4
    transform = georeference.get("transform", UTM)
    assert (draw(frame, class_map.shape, transform) == class_map).mean() > 0.98
    areas = [shapely.union_all(polygons.geometry).area for polygons in (frame, stairs)]
    assert areas[0] == pytest.approx(areas[1], rel=0.01)


@pytest.mark.parametrize("georeference", [{"crs": None, "transform": None}, {"crs": None}, {"crs": LOCAL}])
@pytest.mark.parametrize("options", [{"min_area": 1.0}, {"simplify": 5.0}])
def test_hectares_and_metres_need_a_place_on_earth(tmp_path, georeference, options):
    with pytest.raises(ConfigError, match="pixels on the ground is unknown"):
        polygonize(tmp_path, [[1]], options=options, **georeference)
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
