import geopandas
import numpy as np
import pytest
import shapely
from rasterio import Affine
from rasterio.crs import CRS
from shapely.geometry import box

from mm_ovseg.data.tile.label_values import Legend
from mm_ovseg.data.tile.polygon_labels import PolygonLabels
from mm_ovseg.raster import Grid

GRID = Grid(60, 40, CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000))
LEGEND = Legend(("wood", "lake"), (("wood", 0), ("lake", 1), ("secret", 255), ("010", 0), ("03", 1), ("true", 1)))


def field(left, top, right, bottom):
    return box(500_000 + 10 * left, 5_000_000 - 10 * bottom, 500_000 + 10 * right, 5_000_000 - 10 * top)


@pytest.fixture
def labels(tmp_path):
    def make(features, **options):
        values, geometries = zip(*features, strict=True)
        path = tmp_path / "use.gpkg"
        geopandas.GeoDataFrame({"use": values}, geometry=list(geometries), crs=32633).to_file(path)
        return PolygonLabels(path, GRID, LEGEND, attribute="use", **options)

    return make


FEATURES = [
    ("lake", field(10, 10, 20, 20)),
    ("wood", field(-1000, 0, 40, 40)),  # whose part within the scene is smaller than it is
    ("mine", field(45, 0, 50, 10)),
    ("secret", field(50, 0, 60, 40)),
    ("pit", field(12, 12, 14, 15)),
]
EXPECTED = np.full((40, 60), 2)
EXPECTED[:, :40], EXPECTED[10:20, 10:20], EXPECTED[12:15, 12:14] = 0, 1, 255
EXPECTED[:10, 45:50], EXPECTED[:, 50:] = 255, 255


@pytest.mark.parametrize("background", [2, 255])
def test_polygons_of_unknown_values_are_ignored_never_background(labels, background):
    drawn, unknown = labels(FEATURES, background=background).read(0, 0, 40, 60)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, np.where(EXPECTED == 2, background, EXPECTED))
    assert unknown == {"mine": 50, "pit": 6}


def test_windows_are_parts_of_the_whole_and_count_their_own(labels):
    read = labels(FEATURES, background=2).read
    for column in range(0, 60, 13):
        for row in range(0, 40, 11):
            drawn, unknown = read(row, column, min(11, 40 - row), min(13, 60 - column))
            part = EXPECTED[row : row + 11, column : column + 13]
            np.testing.assert_array_equal(drawn, part)
            assert sum(unknown.values()) <= (part == 255).sum()


def test_far_polygons_and_other_geometries(labels):
    far = labels([("wood", field(900, 0, 910, 9)), ("lake", shapely.Point(500_005, 4_999_995))], background=2)
    drawn, unknown = far.read(0, 0, 40, 60)
    assert (drawn == 2).all() and unknown == {} and far.left_out == {"points": 1}


@pytest.mark.parametrize(("value", "expected"), [
    ("010", 0), ("10", None), (10, 0), (3.0, 1), ("3", None), ("03", 1), (True, 1), (0.3, None), (None, None),
])  # fmt: skip
def test_texts_are_compared_as_written_and_numbers_as_numbers(value, expected):
    assert LEGEND.index_of(value) == expected
