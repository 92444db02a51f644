import json
import os
from contextlib import suppress
from dataclasses import replace

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Transformer
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from shapely.geometry import box, mapping

from mm_ovseg.data.tile.label_values import value_text
from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, vector
from mm_ovseg.raster.vector import read_polygons
from mm_ovseg.raster.vector_drivers import LOCAL_DRIVERS, local_drivers

DEGREES = CRS.from_epsg(4326)
UTM = Grid(100, 80, CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_800))
POLAR = Grid(96, 96, CRS.from_epsg(3413), Affine(62500, 0, -3e6, 0, -62500, 3e6))


def at(left, top, right, bottom):
    """A rectangle of columns and rows of the grid UTM."""
    return shapely.transform(box(left, top, right, bottom), lambda p: np.stack(UTM.transform @ tuple(p.T), axis=1))


def geojson(path, geometries, crs="urn:ogc:def:crs:OGC:1.3:CRS84", values=None, encoding="utf-8"):
    features = [
        {
            "type": "Feature",
            "geometry": None if geometry is None else geometry if isinstance(geometry, dict) else mapping(geometry),
            "properties": {} if values is None else {"use": value},
        }
        for geometry, value in zip(geometries, values or [None] * len(geometries), strict=True)
    ]
    content = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": crs}}, "features": features}
    path.write_text(json.dumps(content), encoding=encoding)
    return path


def draw(polygons, grid):
    if not len(polygons.geometries):
        return np.zeros((grid.height, grid.width), bool)
    return rasterize(polygons.geometries, out_shape=(grid.height, grid.width), transform=grid.transform) > 0


def in_box(grid, left, bottom, right, top, crs=DEGREES):
    """The pixels whose middle lies in a box of another system, by bringing every middle there."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform @ (columns, rows)
    x, y = Transformer.from_crs(grid.crs.to_wkt(), crs.to_wkt(), always_xy=True).transform(x, y)
    if crs.is_geographic:
        x = left - 1e-9 + (x - left + 1e-9) % 360
    return (x >= left - 1e-9) & (x <= right + 1e-9) & (y >= bottom - 1e-9) & (y <= top + 1e-9)


@pytest.mark.parametrize("lonlat", [
    (-180, 70, 180, 89.9),
    (-180, 70, 180, 90),
    (0, 75, 360, 85),
    (-60, 60, 0, 83),
    (150, 60, 210, 80),
    (-210, 60, -150, 80),
    (-300, 65, -250, 88),
])  # fmt: skip
def test_edges_are_straight_in_longitude_and_latitude_around_a_pole(tmp_path, lonlat):
    polygons = read_polygons(geojson(tmp_path / "a.geojson", [box(*lonlat)]), POLAR)
    np.testing.assert_array_equal(draw(polygons, POLAR), in_box(POLAR, *lonlat))


def test_a_wide_box_over_a_tile_follows_its_parallels(tmp_path):
    grid = Grid(1098, 1098, CRS.from_epsg(32633), Affine(100, 0, 499_980, 0, -100, 7_300_020))
    lonlat = (15.2, 65.0, 17.2, 65.6)
    drawn = draw(read_polygons(geojson(tmp_path / "a.geojson", [box(*lonlat)]), grid), grid)
    expected = in_box(grid, *lonlat)
    assert expected.sum() > 100_000 and (drawn != expected).mean() < 1e-4
    # By its corners alone, it would be off by kilometres.
    corners = Transformer.from_crs("OGC:CRS84", 32633, always_xy=True)
    straight = shapely.transform(box(*lonlat), lambda p: np.stack(corners.transform(*p.T), axis=1))
    by_corners = rasterize([straight], out_shape=(1098, 1098), transform=grid.transform) > 0
    assert (by_corners != expected).mean() > 20 * (drawn != expected).mean()


@pytest.mark.parametrize("turns_of_file", [-1, 0, 1])
@pytest.mark.parametrize("turns_of_grid", [-1, 0, 1])
@pytest.mark.parametrize("west", [-123.1, 179.9, -0.1])
@pytest.mark.parametrize("suffix", ["geojson", "gpkg"])
def test_longitudes_are_angles(tmp_path, west, turns_of_grid, turns_of_file, suffix):
    grid = Grid(100, 50, DEGREES, Affine(0.002, 0, west + 360 * turns_of_grid, 0, -0.002, 45.1))
    inner = box(west + 0.05, 45.02, west + 0.15, 45.08)
    shifted = shapely.transform(inner, lambda points: points + (360 * turns_of_file, 0))
    path = tmp_path / f"a.{suffix}"
    geopandas.GeoDataFrame(geometry=[shifted, box(-60, 0, -50, 9)], crs=4326).to_file(path)
    polygons = read_polygons(path, grid)
    drawn = draw(polygons, grid)
    assert len(polygons.geometries) == 1 and drawn.sum() == 50 * 30 and drawn[10:40, 25:75].all()


@pytest.mark.parametrize("west", [-360, -180, 0])
def test_a_projected_polygon_around_a_pole_or_the_antimeridian_on_a_grid_of_the_world(tmp_path, west):
    world = Grid(360, 180, DEGREES, Affine(1, 0, west, 0, -1, 90))
    angles = np.linspace(0, 2 * np.pi, 721)
    circle = shapely.Polygon(1e6 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    polar = draw(read_polygons(geojson(tmp_path / "p.geojson", [circle], "EPSG:3413"), world), world)
    assert (polar == polar[:, :1]).all() and polar[:9].all() and not polar[10:].any()
    pacific = box(1e6, -1e6, 6e6, 1e6)  # of a system whose middle is 150 degrees east
    drawn = draw(read_polygons(geojson(tmp_path / "m.geojson", [pacific], "EPSG:3832"), world), world)
    np.testing.assert_array_equal(drawn, in_box(world, 1e6, -1e6, 6e6, 1e6, CRS.from_epsg(3832)))
    assert drawn.sum() > 500


def test_random_polygons_between_systems_lie_where_their_middle_points_say(tmp_path):
    random = np.random.default_rng(5)
    systems = [
        (4326, (12, 46), 1e-4),
        (32633, (15, 47), 9),
        (3857, (15, 47), 12),
        (2154, (5, 46), 8),
        (3035, (8, 50), 7),
    ]
    for number in range(12):
        (own, (longitude, latitude), size), (target, *_) = (systems[index] for index in random.integers(0, 5, 2))
        x, y = Transformer.from_crs(4326, own, always_xy=True).transform(longitude, latitude)
        edge = size * random.uniform(50, 5000)
        rectangle = (x - edge, y - edge * random.uniform(0.2, 2), x + edge * random.uniform(0.2, 2), y + edge)
        middle = Transformer.from_crs(own, target, always_xy=True).transform(x, y)
        step = next(size for epsg, _, size in systems if epsg == target) * edge / size / 40
        transform = Affine.translation(*middle) @ Affine.rotation(random.choice([0, 17])) @ Affine.scale(step, -step)
        grid = Grid(70, 60, CRS.from_epsg(target), transform @ Affine.translation(*random.uniform(-60, 10, 2)))
        path = geojson(tmp_path / f"{number}.geojson", [box(*rectangle)], f"EPSG:{own}")
        expected = in_box(grid, *rectangle, CRS.from_epsg(own))
        assert (draw(read_polygons(path, grid), grid) != expected).sum() <= 3


def test_what_the_crs_member_says_holds(tmp_path):
    path = geojson(tmp_path / "a.geojson", [at(10, 20, 60, 50)], "urn:ogc:def:crs:EPSG::32633")
    drawn = draw(read_polygons(path, UTM), UTM)
    assert drawn.sum() == 50 * 30 and drawn[20:50, 10:60].all()


def test_polygons_that_share_an_edge_leave_no_gap_nor_overlap_when_projected(tmp_path):
    fields = [box(14.99 + i * 0.01, 45.14, 15.0 + i * 0.01, 45.18) for i in range(4)]
    polygons = read_polygons(geojson(tmp_path / "a.geojson", fields), UTM)
    count = sum(
        rasterize([geometry], out_shape=(80, 100), transform=UTM.transform).astype(int)
        for geometry in polygons.geometries
    )
    assert count.any() and set(np.unique(count)) <= {0, 1} and len(polygons.geometries) >= 2


def test_only_what_is_near_is_read(tmp_path, monkeypatch):
    fields = [box(i, j, i + 0.8, j + 0.8) for i in range(-170, 170) for j in range(-80, 80, 4)]
    path = tmp_path / "world.gpkg"
    geopandas.GeoDataFrame({"use": range(len(fields))}, geometry=fields, crs=4326).to_file(path)
    read, numbers = pyogrio.read_dataframe, []

    def counting(*arguments, **options):
        frame = read(*arguments, **options)
        numbers.append(len(frame))
        return frame

    monkeypatch.setattr(vector.pyogrio, "read_dataframe", counting)
    grid = Grid(90, 90, DEGREES, Affine(0.1, 0, 30, 0, -0.1, 9))
    polygons = read_polygons(path, grid, attribute="use")
    assert len(polygons.geometries) == 9 * 3 and max(numbers) <= 11 * 4
    assert polygons.values[0] == fields.index(box(30, 0, 30.8, 0.8))


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "shp", "fgb", "kml", "gml", "gpx", "dxf", "tab", "csv"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"field.{suffix}"
    wanted = at(10, 20, 60, 50)
    frame = geopandas.GeoDataFrame({"name": ["x"]}, geometry=[wanted], crs=32633)
    options = {}
    if suffix in ("kml", "gml"):
        frame = frame.to_crs(4326)
    if suffix == "kml":
        options = {"driver": "KML"}
    if suffix == "csv":
        options = {"driver": "CSV", "layer_options": {"GEOMETRY": "AS_WKT"}}
    if suffix == "gpx":
        path.write_text('<gpx version="1.1"><wpt lat="45" lon="15"/></gpx>')
    elif suffix == "dxf":
        frame[["geometry"]].to_file(path)
    else:
        frame.to_file(path, **options)
    if suffix == "gpx":
        with pytest.raises(DataError, match="has no polygons|has the layers"):
            read_polygons(path, UTM)
        return
    if suffix in ("dxf", "csv"):  # which do not tell their reference system
        with pytest.raises(DataError, match="no coordinate reference system"):
            read_polygons(path, UTM)
        return
    before = set(tmp_path.iterdir())
    drawn = draw(read_polygons(path, UTM), UTM)
    assert drawn.sum() == pytest.approx(1500, abs=80) and set(tmp_path.iterdir()) == before


def test_what_is_no_polygon_is_counted_and_the_rest_is_used(tmp_path):
    bow_tie = shapely.Polygon([UTM.transform @ corner for corner in ((0, 0), (10, 10), (10, 0), (0, 10))])
    line = shapely.LineString([UTM.transform @ corner for corner in ((50, 50), (60, 60))])
    flat = shapely.Polygon([UTM.transform @ corner for corner in ((50, 5), (60, 5), (55, 5))])
    nested = shapely.GeometryCollection([line, shapely.GeometryCollection([at(20, 0, 30, 10), at(40, 0, 50, 10)])])
    high = shapely.force_3d(at(60, 0, 70, 10), 7)
    broken = {"type": "Polygon", "coordinates": [[[500_100, float("nan")], [500_200, 5e6], [5e5, 5e6], [500_100, 5e6]]]}
    geometries = [bow_tie, line, shapely.Point(500_500, 5_000_500), None, nested, high, flat, broken, at(0, 70, 10, 80)]
    values = ["bow tie", "line", "point", "nothing", "nested", "high", "flat", "broken", "square"]
    polygons = read_polygons(geojson(tmp_path / "a.geojson", geometries, "EPSG:32633", values), UTM, attribute="use")
    assert polygons.values == ("bow tie", "nested", "high", "square")
    drawn = [rasterize([geometry], out_shape=(80, 100), transform=UTM.transform) for geometry in polygons.geometries]
    assert [int(mask.sum()) for mask in drawn[1:]] == [200, 100, 100] and 40 <= drawn[0].sum() <= 60
    assert polygons.left_out == {"points": 1, "lines": 2, "damaged": 2, "without geometry": 1}
    assert not any(shapely.has_z(polygons.geometries))


def test_curves_become_polygons(tmp_path):
    path = tmp_path / "a.csv"
    circle = "CURVEPOLYGON (CIRCULARSTRING (15.002 45.15, 15.006 45.15, 15.002 45.15))"
    path.write_text(f'WKT,use\n"{circle}",round\n')
    path.with_suffix(".prj").write_text(CRS.from_epsg(4326).to_wkt())
    grid = Grid(100, 100, DEGREES, Affine(1e-4, 0, 15, 0, -1e-4, 45.155))
    polygons = read_polygons(path, grid, attribute="use")
    assert polygons.values == ("round",)
    assert draw(polygons, grid).sum() == pytest.approx(np.pi * 20**2, rel=0.03)


@pytest.mark.parametrize(("values", "expected"), [
    (["wood", None, " lake "], ("wood", "", "lake")),
    (["010", "1.10", "yes"], ("010", "1.10", "yes")),
    ([1, None, 3], ("1", "", "3")),
    ([1.5, 2.0, None], ("1.5", "2", "")),
    (["2020-01-31", "2020-02-01", None], ("2020-01-31", "2020-02-01", "")),
    (["wood", 3, None], ("wood", "3", "")),
    ([True, False, True], ("True", "False", "True")),
])  # fmt: skip
def test_values_are_text_as_written(tmp_path, values, expected):
    path = geojson(tmp_path / "a.geojson", [at(i, 0, i + 1, 1) for i in range(3)], "EPSG:32633", values)
    assert tuple(map(value_text, read_polygons(path, UTM, attribute="use").values)) == expected


@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}, [1, 2]])
def test_values_that_are_no_text_nor_number(tmp_path, value):
    path = geojson(tmp_path / "a.geojson", [at(0, 0, 1, 1)], "EPSG:32633", [value])
    with pytest.raises(DataError, match=r"a\.geojson: the attribute 'use' holds .*neither text nor a number"):
        read_polygons(path, UTM, attribute="use")


def test_a_byte_order_mark_and_names_with_special_characters(tmp_path):
    for name in ("ä ö.geojson", "a;b.geojson", "x' --&{}%s#?.geojson", "a:b.geojson"):
        path = geojson(tmp_path / name, [at(0, 0, 5, 5)], "EPSG:32633", ["森"], encoding="utf-8-sig")
        assert read_polygons(path, UTM, attribute="use").values == ("森",)
    (tmp_path / "a!b").mkdir()
    path = geojson(tmp_path / "a!b" / "c.geojson", [at(0, 0, 5, 5)])
    with pytest.raises(DataError, match="has '!' in its path"):
        read_polygons(path, UTM)


def test_layers(tmp_path):
    path = tmp_path / "many.gpkg"
    for name, kind in (("fields", "Polygon"), ('odd "name"', "Polygon"), ("points", "Point")):
        geometry = at(0, 0, 5, 5) if kind == "Polygon" else shapely.Point(500_010, 5_000_100)
        geopandas.GeoDataFrame({"use": [name]}, geometry=[geometry], crs=32633).to_file(path, layer=name)
    with pytest.raises(DataError, match='has the layers fields, odd "name", points; choose one with --aoi-layer'):
        read_polygons(path, UTM, layer_option="--aoi-layer")
    with pytest.raises(DataError, match="has no layer 'none'; its layers are fields"):
        read_polygons(path, UTM, layer="none")
    with pytest.raises(DataError, match="has no polygons in this layer"):
        read_polygons(path, UTM, layer="points")
    assert read_polygons(path, UTM, layer='odd "name"', attribute="use").values == ('odd "name"',)
    single = tmp_path / "styled.gpkg"  # as QGIS writes it, with its style in a table beside the polygons
    geopandas.GeoDataFrame({"use": ["x"]}, geometry=[at(0, 0, 5, 5)], crs=32633).to_file(single, layer="fields")
    pyogrio.write_dataframe(geopandas.pd.DataFrame({"qml": ["<qgis/>"]}), single, layer="layer_styles")
    assert len(read_polygons(single, UTM).geometries) == 1


def test_reference_systems_that_do_not_go_together(tmp_path):
    placed = geojson(tmp_path / "placed.geojson", [at(0, 0, 5, 5)], "EPSG:32633")
    bare = tmp_path / "bare.gpkg"
    geopandas.GeoDataFrame({"use": ["x"]}, geometry=[box(3, 4, 9, 8)]).to_file(bare)
    nowhere = Grid(20, 20, None, None)
    with pytest.raises(DataError, match="placed.geojson has a coordinate reference system and the scene has none"):
        read_polygons(placed, nowhere)
    with pytest.raises(DataError, match="bare.gpkg has no coordinate reference system"):
        read_polygons(bare, UTM)
    with pytest.raises(
        DataError, match="The local coordinate system of the scene cannot be transformed to that of .*placed.geojson"
    ):
        read_polygons(placed, replace(UTM, crs=CRS.from_string('LOCAL_CS["site plan",UNIT["metre",1]]')))
    (shape,) = read_polygons(bare, nowhere).geometries
    assert shape.bounds == (3, 4, 9, 8)


@pytest.mark.parametrize("name", [
    "https://example.org/a.geojson",
    "/vsicurl/https://example.org/a.geojson",
    "/vsizip/a.zip/a.shp",
    "s3://bucket/a.gpkg",
])  # fmt: skip
def test_addresses_are_not_files(name):
    with pytest.raises(DataError, match="is an address; download|paths are not read; unpack or download"):
        read_polygons(name, UTM)


@pytest.mark.parametrize(
    "name", ["PG:host=localhost dbname=x", "MYSQL:a,user=b", "OAPIF:x", "MongoDBv3:", "WFS:https://a.org/wfs"]
)
def test_databases_are_not_files(name):
    with pytest.raises(DataError, match="is a database or service, not a file") as caught:
        read_polygons(name, UTM)
    assert "localhost" not in str(caught.value)  # nor may a password be shown


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(DataError, match="is a folder; give the file in it"):
        read_polygons(tmp_path, UTM)
    with pytest.raises(DataError, match=r"none\.gpkg does not exist"):
        read_polygons(tmp_path / "none.gpkg", UTM)
    (tmp_path / "field.geojson").write_bytes('{"type": "FeatureCollection", "features": []}'.encode("utf-16"))
    with pytest.raises(DataError, match=r"field\.geojson cannot be read as a vector file: its format .*GeoPackage\.$"):
        read_polygons(tmp_path / "field.geojson", UTM)
    with pytest.raises(DataError, match="is not UTF-8|does not exist"):
        read_polygons(os.fsdecode(bytes(tmp_path) + b"/\xff.gpkg"), UTM)
    (tmp_path / "empty.gpkg").touch()
    with pytest.raises(DataError, match=r"empty\.gpkg is an empty file"):
        read_polygons(tmp_path / "empty.gpkg", UTM)
    os.mkfifo(tmp_path / "pipe.geojson")
    with pytest.raises(DataError, match=r"pipe\.geojson is not a regular file; give one"):
        read_polygons(tmp_path / "pipe.geojson", UTM)
    gdb = tmp_path / "fields.gdb"
    frame = geopandas.GeoDataFrame({"use": ["x"]}, geometry=[at(0, 0, 5, 5)], crs=32633)
    frame.to_file(gdb, driver="OpenFileGDB", layer="fields")
    assert read_polygons(gdb, UTM, attribute="use").values == ("x",)


GML = (
    '<ogr:FeatureCollection xmlns:ogr="http://ogr.maptools.org/" xmlns:gml="http://www.opengis.net/gml" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://ogr.maptools.org/ {}/a.xsd">'
    '<gml:featureMember><ogr:a><ogr:g><gml:Polygon srsName="EPSG:32633" xmlns:xlink="http://www.w3.org/1999/xlink">'
    '<gml:outerBoundaryIs xlink:href="{}/b.gml#b"/></gml:Polygon></ogr:g></ogr:a></gml:featureMember>'
    "</ogr:FeatureCollection>"
)


@pytest.mark.parametrize("name,text", [
    ("a.gpkg", '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/vsicurl/{}/a.geojson</SrcDataSource>'
     "</OGRVRTLayer></OGRVRTDataSource>"),
    ("a.geojson", '{{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read {}/a.geojson"}}'),
    ("a.xml", "<OGRWFSDataSource><URL>{}/wfs</URL></OGRWFSDataSource>"),
    ("a.xml", "<OGRWFS3DataSource><URL>{}/oapif</URL></OGRWFS3DataSource>"),
    ("a.xml", "<OGRCSWDataSource><URL>{}/csw</URL></OGRCSWDataSource>"),
    ("a.gml", GML),
    ("a.kml", '<kml xmlns="http://www.opengis.net/kml/2.2"><Document><NetworkLink><Link><href>{}/b.kml</href></Link>'
     "</NetworkLink></Document></kml>"),
])  # fmt: skip
def test_files_that_point_elsewhere_reach_nothing(tmp_path, web, name, text):
    address, asked = web
    path = tmp_path / name
    path.write_text(text.replace("{}", address("").rstrip("/")).replace("{{", "{").replace("}}", "}"))
    with suppress(DataError):  # of GML and KML, what is in the file itself may be read
        assert not len(read_polygons(path, UTM).geometries)
    assert not asked and list(tmp_path.iterdir()) == [path]


def test_drivers_are_taken_away_within_the_block_only():
    before = list(pyogrio.list_drivers())
    with pytest.raises(KeyError), local_drivers():
        assert {"GPKG", "KML"} < set(pyogrio.list_drivers()) <= LOCAL_DRIVERS
        raise KeyError
    assert list(pyogrio.list_drivers()) == before
    assert {"WFS", "OGR_VRT"} <= set(before) and pyogrio.get_gdal_config_option("OGR_SKIP") is None


def test_edges_of_any_length_take_bounded_memory(tmp_path):
    path = geojson(tmp_path / "a.geojson", [box(-9e13, -9e13, 9e13, 9e13)], "EPSG:3413")
    with suppress(DataError):
        read_polygons(path, Grid(90, 45, DEGREES, Affine(4, 0, -180, 0, -4, 90)))


@pytest.mark.parametrize("crs", [
    CRS.from_string("EPSG:32633+5773"),
    CRS.from_wkt('LOCAL_CS["WGS 84 / UTM zone 33N",UNIT["metre",1]]'),
])  # fmt: skip
def test_other_spellings_of_one_reference_system_are_that_one(tmp_path, crs):
    path = geojson(tmp_path / "a.geojson", [at(10, 20, 60, 50)], "EPSG:32633")
    (shape,) = read_polygons(path, replace(UTM, crs=crs)).geometries
    assert shape.equals(at(10, 20, 60, 50))


@pytest.mark.parametrize("grid", [UTM, Grid(100, 100, DEGREES, Affine(1e-3, 0, 15, 0, -1e-3, 45.2))])
def test_longitudes_of_any_size_end_soon_and_harm_no_others(tmp_path, grid):
    fields = [box(15.01, 45.155, 15.012, 45.157), box(-3e13, 45, -2e13, 46), box(2e13, 45, 3e13, 46)]
    polygons = read_polygons(geojson(tmp_path / "a.geojson", fields), grid)
    assert len(polygons.geometries) == 1 and draw(polygons, grid).any()


def test_parts_of_one_feature_may_overlap(tmp_path):
    parts = shapely.MultiPolygon([shapely.box(0, 0, 60, 60), shapely.box(30, 30, 100, 100)])
    geopandas.GeoDataFrame(geometry=[parts], crs="EPSG:32633").to_file(tmp_path / "a.gpkg")
    grid = Grid(5, 5, CRS.from_epsg(32633), Affine(10, 0, 20, 0, -10, 70))
    found = read_polygons(tmp_path / "a.gpkg", grid)
    assert found.geometries[0].area == 40 * 40 + 40 * 40 - 30 * 30 and found.areas[0] == 3600 + 4900 - 900
    assert found.left_out == {}
