import json
import logging

import geopandas
import numpy as np
import pytest
import shapely
from rasterio import Affine
from rasterio.crs import CRS
from shapely.geometry import box, mapping

from mm_ovseg.errors import DataError
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.raster import Grid

GRID = Grid(192, 150, CRS.from_epsg(32652), Affine(2, 0, 430_000, 0, -2, 3_900_000))


def square(left, top, right, bottom, crs=32652):
    """Columns and rows of the grid, in another system."""
    corners = box(430_000 + 2 * left, 3_900_000 - 2 * bottom, 430_000 + 2 * right, 3_900_000 - 2 * top)
    return geopandas.GeoSeries([corners], crs=32652).to_crs(crs)


def rows_of(area, grid=GRID):
    """The mask from stripes of many heights, which overlap as the rows of windows do."""
    whole = np.zeros((grid.height, grid.width), bool)
    for top, count in ((0, 1), (0, 40), (20, 64), (60, 90), (grid.height - 7, 7)):
        rows = area.rows(top, count)
        assert rows.dtype == bool and rows.shape == (count, grid.width)
        whole[top : top + count] |= rows
    return whole


@pytest.mark.parametrize(("name", "crs"), [
    ("a.gpkg", 32652), ("a.shp", 4326), ("a.fgb", 3857), ("a.kml", 4326), ("a.geojson", 4326), ("a.geojson", 32651),
    ("a.gml", 32652),
])  # fmt: skip
def test_an_area_of_any_format_and_system(tmp_path, name, crs):
    options = {"driver": "KML"} if name == "a.kml" else {}
    square(50, 30, 150, 130, crs).to_file(tmp_path / name, **options)
    mask = rows_of(SceneArea(tmp_path / name, GRID))
    expected = np.zeros_like(mask)
    expected[30:130, 50:150] = True
    # Straight edges of other systems are not quite straight here.
    assert (mask != expected).sum() <= (0 if crs == 32652 else 8)


def test_what_lies_outside_of_the_scene_is_an_error(tmp_path):
    for geometry in (
        square(-500, 0, -400, 90),
        square(500, 0, 501, 90, 4326),
        geopandas.GeoSeries([box(10, 50, 10.1, 50.1)], crs=4326),
        geopandas.GeoSeries([box(14_273_000, 4_194_000, 14_275_000, 4_196_000)], crs=3857).to_crs(3857),
    ):
        geometry.to_file(tmp_path / "a.gpkg")
        with pytest.raises(DataError, match=r"The area in .*a\.gpkg is outside the scene"):
            SceneArea(tmp_path / "a.gpkg", GRID)
    square(10.6, 10.6, 11.4, 11.4).to_file(tmp_path / "a.gpkg")
    with pytest.raises(DataError, match=r"The area in .*a\.gpkg contains the centre of no pixel"):
        SceneArea(tmp_path / "a.gpkg", GRID)


def test_what_is_left_out_is_said(tmp_path, caplog):
    polygon, point = square(50, 30, 150, 130)[0], shapely.Point(430_010, 3_899_990)
    path = tmp_path / "a.gpkg"
    geopandas.GeoSeries([polygon, point, point, None], crs=32652).to_file(path)
    with caplog.at_level(logging.WARNING):
        assert rows_of(SceneArea(path, GRID)).sum() == 100 * 100
    assert "2 points" in caplog.text and "1 without geometry" in caplog.text
    geopandas.GeoSeries([point, shapely.Polygon(), None], crs=32652).to_file(path)
    with pytest.raises(DataError, match="has no polygons in the scene; left out: .*1 points"):
        SceneArea(path, GRID)


def test_layers_and_bare_geometries(tmp_path):
    path = tmp_path / "a.gpkg"
    for name, columns in (("left", (0, 10)), ("right", (100, 140))):
        square(columns[0], 0, columns[1], 20).to_file(path, layer=name)
    with pytest.raises(DataError, match="has the layers left, right; choose one with --aoi-layer"):
        SceneArea(path, GRID)
    assert rows_of(SceneArea(path, GRID, "right")).sum() == 40 * 20
    bare = tmp_path / "bare.geojson"
    bare.write_text(json.dumps(mapping(square(0, 0, 192, 60, 4326)[0])))
    assert rows_of(SceneArea(bare, GRID)).sum() == pytest.approx(192 * 60, abs=5)


def test_a_scene_without_georeference(tmp_path):
    grid = Grid(30, 20, None, None)
    square(50, 30, 150, 130, 4326).to_file(tmp_path / "a.geojson")
    with pytest.raises(DataError, match="the scene has none"):
        SceneArea(tmp_path / "a.geojson", grid)
    geopandas.GeoSeries([box(3, 4, 13, 9)]).to_file(tmp_path / "b.gpkg")
    assert SceneArea(tmp_path / "b.gpkg", grid).rows(0, 20)[4:9, 3:13].all()
