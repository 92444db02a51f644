import sqlite3
import sys

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio import Affine

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.inference import polygons, write_class_map_geotiff
from mm_ovseg.inference.areas import measure_areas
from mm_ovseg.inference.polygons import write_polygons

fiona = pytest.importorskip("fiona", reason="needs mm_ovseg[vector]")

NAMES = ["city", "Wald, ö 森", 'it\'s "a"; DROP TABLE <b>&', "x" * 300]
COLORS = [[200, 0, 0], [0, 120, 0], [0, 0, 255], [9, 9, 9]]
UTM = Affine(10, 0, 500000, 0, -10, 4000000)
LOCAL = rasterio.crs.CRS.from_string('LOCAL_CS["site plan",UNIT["metre",1]]')
LAMBERT = rasterio.crs.CRS.from_string("+proj=laea +lat_0=10 +lon_0=-20 +x_0=7 +ellps=intl +units=us-ft")


def write_map(path, class_map, crs="EPSG:32652", transform=UTM):
    write_class_map_geotiff(path, np.asarray(class_map), crs=crs, transform=transform, class_names=NAMES, colors=COLORS)
    return path


def patches():
    """All four classes and nodata in patches of many sizes, with holes."""
    coarse = np.random.default_rng(0).choice([0, 1, 2, 3, 255], (12, 15))
    class_map = np.kron(coarse, np.ones((40, 40), np.int64))
    class_map[100:300, 200:500] = 0
    class_map[150:200, 250:400] = 1
    return class_map


def polygonize(tmp_path, class_map, **georeference):
    path = tmp_path / "polygons.gpkg"
    count = write_polygons(write_map(tmp_path / "map.tif", class_map, **georeference), path, NAMES)
    with fiona.open(path) as layer:
        features = list(layer)
    assert len(features) == count
    return features


def test_one_layer_of_named_classes(tmp_path):
    path = tmp_path / "new" / "my map.gpkg"
    class_map = [[0, 0, 1], [255, 2, 1], [3, 2, 2]]
    assert write_polygons(write_map(tmp_path / "map.tif", class_map), path, NAMES) == 4
    assert fiona.listlayers(path) == ["my map"]
    with fiona.open(path) as layer:
        assert layer.crs.to_epsg() == 32652
        assert layer.schema["geometry"] == "Polygon"
        assert {name: kind.split(":")[0].removesuffix("32") for name, kind in layer.schema["properties"].items()} == {
            "class_index": "int",
            "class_name": "str",
            "area_ha": "float",
        }
        found = {feature.properties["class_index"]: feature.properties for feature in layer}
    assert [found[index]["class_name"] for index in range(4)] == NAMES
    pixel = 0.01 / 0.9996**2  # hectares on the central meridian
    assert [found[index]["area_ha"] for index in range(4)] == pytest.approx([2 * pixel, 2 * pixel, 3 * pixel, pixel])
    assert list(path.parent.iterdir()) == [path]


def test_pixels_that_touch_at_corners_only_are_apart(tmp_path):
    assert len(polygonize(tmp_path, [[0, 255], [255, 0]])) == 2
    assert len(polygonize(tmp_path, [[0, 0], [255, 0]])) == 1


@pytest.mark.parametrize("transform", [UTM, UTM @ Affine.rotation(30)], ids=["straight", "rotated"])
def test_polygons_drawn_again_are_the_map(tmp_path, transform):
    class_map = patches()
    features = polygonize(tmp_path, class_map, transform=transform)
    drawn = rasterio.features.rasterize(
        [(feature.geometry, feature.properties["class_index"]) for feature in features],
        out_shape=class_map.shape,
        transform=transform,
        fill=255,
    )
    assert (drawn == class_map).all()


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
    class_map[400:] = 2  # one patch from side to side, whose straight edges are no geodesics
    sums = np.zeros(len(NAMES))
    for feature in polygonize(tmp_path, class_map, crs=crs, transform=transform):
        sums[feature.properties["class_index"]] += feature.properties["area_ha"]
    assert sums == pytest.approx([area.hectares for area in measure_areas(tmp_path / "map.tif", NAMES)], rel=1e-3)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2193", LAMBERT])
def test_the_reference_system_and_its_order_of_axes_are_the_maps(tmp_path, crs):
    transform = Affine(0.01, 0, 20, 0, -0.01, 60)
    features = polygonize(tmp_path, np.zeros((10, 20)).astype(int), crs=crs, transform=transform)
    with fiona.open(tmp_path / "polygons.gpkg") as layer, rasterio.open(tmp_path / "map.tif") as dataset:
        assert layer.bounds == pytest.approx(tuple(dataset.bounds))
        assert len(features) == 1
        to_map = Transformer.from_crs(layer.crs_wkt, dataset.crs.to_wkt(), always_xy=True)
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
@pytest.mark.filterwarnings("error")
def test_without_a_place_on_earth_there_are_polygons_without_areas(tmp_path, georeference, bounds):
    (feature,) = polygonize(tmp_path, [[1, 1, 1], [1, 1, 1]], **georeference)
    assert feature.properties["area_ha"] is None
    with fiona.open(tmp_path / "polygons.gpkg") as layer:
        assert layer.bounds == pytest.approx(bounds)


def test_an_old_file_is_replaced_be_it_by_an_empty_layer(tmp_path):
    assert len(polygonize(tmp_path, patches())) > 10
    assert polygonize(tmp_path, [[255]]) == []
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "polygons.gpkg"}


def test_the_file_is_sound_and_has_no_journal_mode_of_its_own(tmp_path):
    polygonize(tmp_path, patches())
    connection = sqlite3.connect(tmp_path / "polygons.gpkg")
    assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
    connection.close()


def failing_features(error):
    def features(info, class_names):
        yield from []
        raise error

    return features


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), fiona.errors.TransactionError("a\ntransaction"), KeyboardInterrupt()],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    path = tmp_path / "polygons.gpkg"
    path.write_text("old")
    source = write_map(tmp_path / "map.tif", patches())
    monkeypatch.setattr(polygons, "_features", failing_features(error))
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError
    with pytest.raises(expected) as caught:
        write_polygons(source, path, NAMES)
    if expected is DataError:
        assert f"{path} cannot be written" in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "polygons.gpkg"}


def test_maps_that_cannot_be_outlined(tmp_path):
    source, path = tmp_path / "map.tif", tmp_path / "polygons.gpkg"
    with pytest.raises(DataError, match="map.tif does not exist"):
        write_polygons(source, path, NAMES)
    write_map(source, patches())
    with pytest.raises(DataError, match=f"{source} holds 3, but there are only 3 class names"):
        write_polygons(source, path, NAMES[:3])
    content = write_map(source, patches()).read_bytes()
    source.write_bytes(content[: len(content) // 2] + bytes(200) + content[len(content) // 2 + 200 :])
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


def test_without_fiona_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fiona", None)
    with pytest.raises(ConfigError, match=r"pip install 'mm_ovseg\[vector\]'"):
        write_polygons(tmp_path / "map.tif", tmp_path / "polygons.gpkg", NAMES)
