"""What is delivered with a map: STAC items that validate, tables that GDAL reads, and layers of a GeoPackage."""

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.cli import arguments
from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.inference.areas import measure_values
from mm_ovseg.inference.change import CHANGE_DELIVERABLES, ChangeOptions, map_changes
from mm_ovseg.inference.deliverables import DELIVERABLES, deliver_table
from mm_ovseg.inference.map_images import MapTimes
from mm_ovseg.inference.map_item import MapAsset, write_stac_item
from mm_ovseg.inference.scene_options import SceneOptions
from mm_ovseg.raster import Grid, RasterSource, write_geotiff
from mm_ovseg.raster.cog import write_cog
from tests.inference.test_scene import CLASSES, PLACE, pair, predictor, write  # noqa: F401 (fixtures)

EVERYTHING = ("stac", "table", "layers")
SCHEMAS = Path(__file__).with_name("stac_schemas")
DAY = datetime(2023, 7, 1, 10, tzinfo=timezone.utc)
SEEN = MapTimes(DAY, DAY, "The time is that of the acquisition.", certain=True)
LEGEND = (LegendEntry("Wald, ö 森", (0, 120, 0), False, 0), LegendEntry("森", (9, 9, 9), False, 7))


@pytest.fixture
def validate():
    """A function that validates an item, and each of its extensions, without a network; returns it."""
    pystac = pytest.importorskip("pystac")
    pytest.importorskip("jsonschema")
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    class Closed(pystac.stac_io.DefaultStacIO):
        def read_text(self, source, *arguments, **options):
            raise AssertionError(f"{source} is not at hand")

    validator = JsonSchemaSTACValidator()
    for path in SCHEMAS.glob("*.json"):
        schema = json.loads(path.read_text(encoding="utf-8"))
        validator.schema_cache[schema["$id"].removesuffix("#")] = schema
    projjson = "https://proj.org/schemas/v0.7/projjson.schema.json"  # which is not written
    validator.schema_cache[projjson] = {"$schema": schema["$schema"], "$id": projjson}

    def check(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pystac.StacIO, "default", lambda: Closed())
            validator.validate_core(content, "Feature", content["stac_version"])
            for extension in content["stac_extensions"]:
                validator.validate_extension(content, "Feature", content["stac_version"], extension)
        item = pystac.Item.from_file(str(path))
        for asset in item.assets.values():
            assert (path.parent / asset.href).is_file(), asset.href
        return item

    return check


def test_a_scene_with_everything(predictor, pair, tmp_path, validate):  # noqa: F811
    area = geopandas.GeoDataFrame(geometry=[shapely.box(500_100, 4_998_700, 500_900, 4_999_900)], crs="EPSG:32633")
    area.to_crs(4326).to_file(tmp_path / "district.geojson")
    output, vector = tmp_path / "maps" / "map.tif", tmp_path / "polygons" / "map.gpkg"
    options = SceneOptions(
        window=40, confidence=True, probabilities=True, vector=vector, area=tmp_path / "district.geojson",
        deliver=EVERYTHING,
    )  # fmt: skip
    report = predictor.segment(*pair, output, options)
    assert report["deliver"] == sorted(EVERYTHING)

    item = validate(output.with_name("map_stac.json"))
    assert item.id == "map" and set(item.assets) == {
        "map", "coverage", "confidence", "probabilities", "polygons", "table", "style", "report",
    }  # fmt: skip
    assert item.properties["proj:code"] == "EPSG:32633" and item.properties["proj:shape"] == [150, 117]
    assert item.properties["proj:transform"] == list(PLACE)[:6] and item.properties["gsd"] == pytest.approx(
        10, rel=1e-3
    )
    centre = shapely.geometry.shape(item.geometry).centroid
    assert (centre.x, centre.y) == pytest.approx((15.0074, 45.1458), abs=1e-3)
    west, south, east, north = item.bbox
    assert west < centre.x < east and south < centre.y < north
    classes = item.assets["map"].extra_fields["classification:classes"]
    assert [entry["value"] for entry in classes] == [0, 1, 2, 255] and classes[-1]["nodata"] is True
    assert [entry["title"] for entry in classes[:3]] == list(CLASSES)
    assert classes[2]["name"] == "bright_white"
    assert [tuple(bytes.fromhex(entry["color_hint"])) for entry in classes[:3]] == [
        tuple(entry["color"]) for entry in report["classes"]
    ]
    assert len(item.assets["probabilities"].extra_fields["raster:bands"]) == len(CLASSES)
    assert item.assets["polygons"].href == "./../polygons/map.gpkg"
    # The files tell no date.
    [warning] = [warning for warning in report["warnings"] if "map_stac.json" in warning]
    assert "do not tell when they were acquired" in warning and warning.endswith(item.properties["description"])
    assert abs((datetime.now(timezone.utc) - item.datetime).total_seconds()) < 600

    assert set(pyogrio.list_layers(vector)[:, 0]) == {"map", "area_of_interest", "image_footprints"}
    mapped = pyogrio.read_dataframe(vector, layer="map")
    assert len(mapped) == report["polygons"] and mapped["area_ha"].sum() == pytest.approx(
        sum(entry["hectares"] for entry in report["classes"]), rel=1e-3
    )
    [area] = pyogrio.read_dataframe(vector, layer="area_of_interest").itertuples()
    assert area.name == "district.geojson" and area.area_ha == pytest.approx(96, rel=2e-3)
    footprints = pyogrio.read_dataframe(vector, layer="image_footprints")
    assert footprints["image"].tolist() == ["RGB", "SAR"] and footprints["files"].tolist() == ["rgb.tif", "sar.tif"]
    assert footprints.geometry.area.tolist() == pytest.approx([1500 * 1170] * 2) and footprints["sensor"].isna().all()
    assert str(footprints["acquired_from"].dtype).startswith("datetime64")


def test_without_an_area_it_is_the_extent_and_footprints_are_clipped_to_it(predictor, pair, tmp_path, monkeypatch):  # noqa: F811
    wide = write(tmp_path / "wide.tif", np.full((300, 30), 7, np.uint8), Affine(40, 0, 499_000, 0, -40, 5_006_000))
    about = {"sar": {"ids": ["A", "B"], "sensor": "Sentinel-1A SAR", "acquired": ["2023-07-01T12:00:00+02:00", None]}}
    prepare = predictor.segment.__globals__["prepare_scene"]

    def prepared(*arguments, **options):
        images = prepare(*arguments, **options)
        images.about.update(about)
        return images

    monkeypatch.setitem(predictor.segment.__globals__, "prepare_scene", prepared)
    vector = tmp_path / "map.gpkg"
    options = SceneOptions(window=40, vector=vector, deliver=("layers",))
    predictor.segment(pair[0], wide, tmp_path / "map.tif", options)
    [area] = pyogrio.read_dataframe(vector, layer="area_of_interest").itertuples()
    assert area.name == "extent of the map" and area.area_ha == pytest.approx(175.5, rel=2e-3)
    rgb, sar = pyogrio.read_dataframe(vector, layer="image_footprints").itertuples()
    assert rgb.geometry.bounds == (500_000, 4_998_500, 501_170, 5_000_000)
    assert sar.geometry.bounds == (500_000, 4_998_500, 500_200, 5_000_000)
    assert (sar.ids, sar.sensor) == ("A, B", "Sentinel-1A SAR") and rgb.acquired_from != rgb.acquired_from
    assert str(sar.acquired_from) == str(sar.acquired_to) == "2023-07-01 10:00:00"


def test_a_finished_map_without_what_is_now_asked_for_is_made_again(predictor, pair, tmp_path):  # noqa: F811
    output, plain = tmp_path / "map.tif", {"window": 40, "vector": tmp_path / "map.gpkg"}
    predictor.segment(*pair, output, SceneOptions(**plain, deliver=("table",)))
    found = {
        words: predictor.finished_report(*pair, output, SceneOptions(**plain, deliver=words)) is not None
        for words in ((), ("table",), ("stac",), ("layers",), ("table", "layers"))
    }
    assert [words for words, finished in found.items() if finished] == [(), ("table",)]
    (tmp_path / "map.tif.aux.xml").unlink()
    assert predictor.finished_report(*pair, output, SceneOptions(**plain, deliver=("table",))) is None
    assert predictor.finished_report(*pair, output, SceneOptions(**plain)) is not None


def test_what_cannot_be_delivered_is_one_sentence_and_leaves_nothing(predictor, pair, tmp_path, monkeypatch):  # noqa: F811
    nowhere = write(tmp_path / "nowhere.tif", np.ones((3, 50, 50), np.uint8), None, None)
    existing = {path.name for path in tmp_path.iterdir()}
    for rgb, options, error, message in (
        (pair[0], {"deliver": ("layers",)}, ConfigError, "adds to the file of --vector; give that too"),
        (pair[0], {"deliver": ("shape",)}, ConfigError, "--deliver is 'shape'; choose one of stac, table, layers"),
        (
            pair[0],
            {"deliver": ("layers",), "vector": tmp_path / "image_footprints.gpkg"},
            ConfigError,
            "writes a layer 'image_footprints' itself",
        ),
        (nowhere, {"deliver": ("stac",)}, DataError, "The map has no place on the Earth"),
    ):
        with pytest.raises(error, match=message):
            predictor.segment(rgb, None, tmp_path / "map.tif", SceneOptions(window=40, **options))
        assert {path.name for path in tmp_path.iterdir()} == existing
    monkeypatch.setitem(sys.modules, "pystac", None)
    with pytest.raises(ConfigError, match=r"pip install 'mm_ovseg\[stac\]'"):
        predictor.segment(pair[0], None, tmp_path / "map.tif", SceneOptions(window=40, deliver=("stac",)))


def test_a_map_without_a_place_has_a_table_and_layers_where_qgis_draws_it(predictor, tmp_path):  # noqa: F811
    rgb = write(tmp_path / "rgb.tif", np.full((3, 50, 60), 200, np.uint8), None, None)
    options = SceneOptions(window=40, vector=tmp_path / "map.gpkg", deliver=("table", "layers"))
    predictor.segment(rgb, None, tmp_path / "map.tif", options)
    for layer in ("area_of_interest", "image_footprints"):
        [place] = pyogrio.read_dataframe(tmp_path / "map.gpkg", layer=layer).geometry
        assert place.bounds == (0, -50, 60, 0)
    assert "Hectares" not in (tmp_path / "map.tif.aux.xml").read_text()


def test_the_choices_of_the_command_lines_are_those_of_the_package():
    assert set(arguments.DELIVERABLES) == set(DELIVERABLES) and CHANGE_DELIVERABLES == ("stac", "table")


def class_map(path, grid, pixels=None, image=None):
    tags = {f"class_{entry.value}": entry.name for entry in LEGEND}
    colors = {entry.value: entry.color for entry in LEGEND}
    pixels = np.random.default_rng(0).choice([0, 7, 255], grid.shape).astype(np.uint8) if pixels is None else pixels
    write_geotiff(path, pixels[None], grid, nodata=255, colors=colors, band_tags=tags)
    if image is not None:
        content = {"map": path.name, "images": {"sar": image}}
        path.with_suffix(".json").write_text(json.dumps(content))
    return path


UTM = Grid(40, 30, CRS.from_epsg(32633), PLACE)


def test_a_map_of_changes_with_its_dates_and_sources(tmp_path, validate):
    link = "https://catalogue.example/items/S1A"
    of_item = {"items": [{"id": "S1A", "source": link}, {"id": "S1", "source": "here.json"}]}
    before = class_map(tmp_path / "before.tif", UTM, image={"acquired": ["2023-06-01T00:00:00Z"], **of_item})
    pixels = np.full(UTM.shape, 7, np.uint8)
    after = class_map(tmp_path / "after.tif", UTM, pixels, image={"ids": ["S1B"], "acquired": ["2023-07-01T00:00:00Z"]})
    options = ChangeOptions(water=("森",), vector=tmp_path / "out" / "change.gpkg", deliver=("stac", "table"))
    report = map_changes(before, after, tmp_path / "out" / "change.tif", options)
    assert report["warnings"] == []
    item = validate(tmp_path / "out" / "change_stac.json")
    assert item.datetime is None and item.properties["start_datetime"] == "2023-06-01T00:00:00Z"
    assert item.properties["end_datetime"] == "2023-07-01T00:00:00Z"
    assert {at.target for at in item.get_links("derived_from")} >= {link}
    assert [at["href"] for at in item.to_dict(transform_hrefs=False)["links"] if at["rel"] == "derived_from"][1:] == [
        "../before.tif", "../after.tif",
    ]  # fmt: skip
    assert {"map", "flood", "areas"} <= item.assets.keys()
    for name in ("change", "change_flood"):
        assert (tmp_path / "out" / f"{name}.tif.aux.xml").is_file()
    map_changes(before, after, tmp_path / "out" / "change.tif", ChangeOptions(water=("森",)))
    assert not list((tmp_path / "out").glob("*.aux.xml"))  # they were those of the maps before


@pytest.mark.parametrize("tags, expected", [
    ({"TIFFTAG_DATETIME": "2022:03:04 05:06:07"}, "2022-03-04T05:06:07Z"),
    ({"ACQUISITIONDATETIME": "2021-03-04T05:06:07+01:00", "TIFFTAG_DATETIME": "2022:03:04 05:06:07"},
     "2021-03-04T04:06:07Z"),
    ({"TIFFTAG_DATETIME": "yesterday"}, None),
])  # fmt: skip
def test_times_in_the_tags_of_the_images(predictor, pair, tmp_path, validate, tags, expected):  # noqa: F811
    with rasterio.open(pair[0], "r+") as file:
        file.update_tags(**{name: value for name, value in tags.items() if name.startswith("TIFF")})
        file.update_tags(ns="IMAGERY", **{name: value for name, value in tags.items() if name.startswith("ACQ")})
    report = predictor.segment(pair[0], None, tmp_path / "map.tif", SceneOptions(window=40, deliver=("stac",)))
    item = validate(tmp_path / "map_stac.json")
    said = "may be when they were processed" if expected else "do not tell when"
    assert any(said in warning for warning in report["warnings"])
    assert expected in (None, item.to_dict()["properties"]["datetime"])


def write_item(folder, grid):
    path = class_map(folder / "map.tif", grid)
    write_stac_item(folder / "map_stac.json", grid, {"map": MapAsset(path, "Map", ("data",), legend=LEGEND)},
                    title="Map", times=SEEN)  # fmt: skip
    return folder / "map_stac.json"


@pytest.mark.parametrize("crs, place, bbox", [
    (32660, Affine(1000, 0, 810_000, 0, -1000, 1_000_000), (179.8, 8.7, -179.8, 9.1)),
    (32701, Affine(1000, 0, 150_000, 0, -1000, 8_000_000), (179.7, -18.4, -179.9, -18.0)),
    (4326, Affine(0.01, 0, 179.8, 0, -0.01, 10), (179.8, 9.7, -179.8, 10)),
    (3031, Affine(10_000, 0, -200_000, 0, -10_000, 150_000), (-180, -90, 180, -87.7)),
    (32633, PLACE, (15, 45.15, 15.005, 45.155)),
])  # fmt: skip
def test_places_across_the_antimeridian_and_around_a_pole(tmp_path, validate, crs, place, bbox):
    item = validate(write_item(tmp_path, Grid(40, 30, CRS.from_epsg(crs), place)))
    assert item.bbox == pytest.approx(bbox, abs=0.35)
    geometry = shapely.geometry.shape(item.geometry)
    assert geometry.is_valid and geometry.bounds[0] >= -180 and geometry.bounds[2] <= 180
    assert geometry.geom_type == ("MultiPolygon" if bbox[0] > bbox[2] else "Polygon")


def test_a_system_without_a_code_is_written_in_full(tmp_path, validate):
    laea = CRS.from_string("+proj=laea +lat_0=10 +lon_0=-20 +x_0=7 +ellps=intl +units=m")
    item = validate(write_item(tmp_path, Grid(40, 30, laea, Affine(10, 0, 0, 0, -10, 0))))
    assert item.properties["proj:code"] is None and "Lambert Azimuthal" in item.properties["proj:wkt2"]


def test_class_names_of_any_script_have_a_short_name_of_their_own(tmp_path, validate):
    item = validate(write_item(tmp_path, UTM))
    classes = item.assets["map"].extra_fields["classification:classes"]
    assert [entry["name"] for entry in classes] == ["Wald_o", "class_7", "nodata"]
    assert [entry["title"] for entry in classes][:2] == [entry.name for entry in LEGEND]


def delivered_table(folder):
    path = class_map(folder / "map.tif", UTM)
    with RasterSource(path) as source:
        before = source.read([1]), source.info, source.color_table(1)
    deliver_table(path, LEGEND, measure_values(path))
    return path, before


def test_a_table_changes_nothing_that_readers_see(tmp_path):
    path, (pixels, info, colors) = delivered_table(tmp_path)
    with RasterSource(path) as source:
        for now, then in zip(source.read([1]), pixels, strict=True):
            np.testing.assert_array_equal(now, then)
        assert (source.info, source.color_table(1)) == (info, colors)


def test_a_new_map_has_not_the_table_of_the_one_before(tmp_path):
    path, _ = delivered_table(tmp_path)
    write_cog(class_map(tmp_path / "plain.tif", UTM), path, categorical=True)
    assert not (tmp_path / "map.tif.aux.xml").exists()


READ_WITH_GDAL = """
import json, sys
from osgeo import gdal
dataset = gdal.Open(sys.argv[1])  # must outlive its table
table = dataset.GetRasterBand(1).GetDefaultRAT()
columns = range(table.GetColumnCount())
print(json.dumps({
    "type": table.GetTableType() == gdal.GRTT_THEMATIC,
    "usages": {table.GetNameOfCol(i): table.GetUsageOfCol(i) for i in columns},
    "rows": [[table.GetValueAsString(row, i) for i in columns] for row in range(table.GetRowCount())],
    "row_of_7": table.GetRowOfValue(7),
    "known": [gdal.GFU_MinMax, gdal.GFU_PixelCount, gdal.GFU_Name, gdal.GFU_Red, gdal.GFU_Green, gdal.GFU_Blue,
              gdal.GFU_Alpha, gdal.GFU_Generic],
}))
"""


def test_gdal_reads_the_table_with_names_colours_and_areas(tmp_path):
    """Through the bindings of the system's GDAL, which QGIS uses; rasterio reads no tables."""
    python = Path("/usr/bin/python3")
    if not python.exists() or subprocess.run([python, "-c", "from osgeo import gdal"], capture_output=True).returncode:
        pytest.skip("the system has no osgeo")
    path, _ = delivered_table(tmp_path)
    read = subprocess.run([python, "-c", READ_WITH_GDAL, path], capture_output=True, text=True, check=True)
    table = json.loads(read.stdout)
    assert table["type"] and table["row_of_7"] == 1
    assert list(table["usages"]) == ["Value", "Count", "Class", "Red", "Green", "Blue", "Alpha", "Hectares"]
    assert list(table["usages"].values()) == table["known"]
    measured = measure_values(path)
    for entry, row in zip(LEGEND, table["rows"], strict=True):
        assert (int(row[0]), row[2], tuple(map(int, row[3:7]))) == (entry.value, entry.name, (*entry.color, 255))
        area = measured.of(entry.value)
        assert float(row[1]) == area["pixels"] and float(row[7]) == pytest.approx(area["hectares"], rel=1e-6)
