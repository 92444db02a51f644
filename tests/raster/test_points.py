import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid
from mm_ovseg.raster.points import read_points, write_points

UTM = Grid(100, 80, CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_800))
ROWS, COLUMNS = np.array([0, 79, 40, 7]), np.array([0, 99, 3, 60])
KINDS = ["water", "Wald, ö", None, "road"]


def write(path, grid=UTM, kinds=KINDS):
    write_points(path, "points", grid, ROWS, COLUMNS, {"id": [1, 2, 3, 4], "kind": kinds})
    return path


def places(points):
    return points.rows.tolist(), points.columns.tolist(), points.values


def test_points_return_to_their_pixels(tmp_path):
    path = write(tmp_path / "new" / "a;b.gpkg")
    assert places(read_points(path, UTM, attribute="kind")) == (ROWS.tolist(), COLUMNS.tolist(), tuple(KINDS))
    info = pyogrio.read_info(f"file://{path}")
    assert (info["geometry_type"], info["crs"]) == ("Point", "EPSG:32633")
    assert [path.name for path in path.parent.iterdir()] == ["a;b.gpkg"]


@pytest.mark.parametrize("crs, suffix", [(4326, "geojson"), (3857, "shp"), (32634, "fgb")])
def test_from_any_system_and_format(tmp_path, crs, suffix):
    frame = geopandas.read_file(write(tmp_path / "points.gpkg")).to_crs(crs)
    frame.to_file(tmp_path / f"points.{suffix}", **({"SPATIAL_INDEX": "NO"} if suffix == "fgb" else {}))
    assert places(read_points(tmp_path / f"points.{suffix}", UTM, attribute="kind"))[:2] == (
        ROWS.tolist(), COLUMNS.tolist(),
    )  # fmt: skip


def test_longitudes_may_be_counted_the_other_way_round(tmp_path):
    grid = Grid(100, 80, CRS.from_epsg(4326), Affine(0.1, 0, 175, 0, -0.1, 20))
    path = write(tmp_path / "points.gpkg", grid)
    frame = geopandas.read_file(path)
    turned = frame.geometry.translate(-360).where(frame.geometry.x > 180, frame.geometry)
    frame.set_geometry(turned).to_file(tmp_path / "turned.gpkg")
    assert places(read_points(tmp_path / "turned.gpkg", grid, attribute="kind")) == places(
        read_points(path, grid, attribute="kind")
    )


def test_numbers_heights_and_single_multipoints(tmp_path):
    frame = geopandas.read_file(write(tmp_path / "points.gpkg", kinds=[1, 2, 254, 0]))
    frame["geometry"] = [shapely.MultiPoint([(point.x, point.y, 3)]) for point in frame.geometry]
    frame.to_file(tmp_path / "multi.gpkg")
    points = read_points(tmp_path / "multi.gpkg", UTM, attribute="kind")
    assert places(points) == (ROWS.tolist(), COLUMNS.tolist(), (1, 2, 254, 0))


def test_points_outside_of_the_grid_are_where_they_are(tmp_path):
    path = write(tmp_path / "points.gpkg")
    points = read_points(path, UTM.window(10, 20, 5, 5), attribute="kind")
    assert (points.rows.tolist(), points.columns.tolist()) == ((ROWS - 10).tolist(), (COLUMNS - 20).tolist())


@pytest.mark.parametrize("geometries, message", [
    ([shapely.Point(5e5, 5e6), None], "has features that are not a single point"),
    ([shapely.Point(5e5, 5e6), shapely.Point()], "has features that are not a single point"),
    ([shapely.MultiPoint([(5e5, 5e6), (5e5, 5e6 + 9)])], "has features that are not a single point"),
    ([shapely.box(5e5, 5e6, 5e5 + 9, 5e6 + 9)], "has features that are not a single point"),
    ([], "has no points in this layer"),
])  # fmt: skip
def test_what_is_not_points(tmp_path, geometries, message):
    frame = geopandas.GeoDataFrame({"kind": ["a"] * len(geometries)}, geometry=geometries, crs=32633)
    frame.to_file(tmp_path / "points.gpkg")
    with pytest.raises(DataError, match=f"points.gpkg {message}"):
        read_points(tmp_path / "points.gpkg", UTM, attribute="kind")


def test_a_table_without_places(tmp_path):
    (tmp_path / "points.csv").write_text("kind,x,y\nwater,500005,5000795\n")
    with pytest.raises(DataError, match="points.csv has no points in this layer"):
        read_points(tmp_path / "points.csv", UTM, attribute="kind")
    with pytest.raises(DataError, match="points.csv has no attribute 'class'; its attributes are kind, x, y"):
        read_points(tmp_path / "points.csv", UTM, attribute="class")
