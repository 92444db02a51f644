from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from mm_ovseg.errors import DataError
from mm_ovseg.raster import RasterSource, check_same_grid, read_raster_info
from tests.conftest import no_warnings

UTM = {"crs": "EPSG:32652", "transform": from_origin(500000, 4000000, 1, 1)}
REAL_DATA = Path(__file__).parents[3] / "shared" / "realdata"
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/realdata is not here")


@pytest.fixture
def info(tmp_path, write_raster):
    """A function ``(name, size=(20, 30), **profile) -> RasterInfo``."""

    def make(name, size=(20, 30), **profile):
        return read_raster_info(write_raster(tmp_path / name, np.zeros(size, dtype=np.uint8), **profile))

    return make


def test_what_a_header_says(tmp_path, write_raster):
    path = write_raster(tmp_path / "a.tif", np.zeros((4, 7, 2), dtype=np.float32), nodata=-1, **UTM)
    info = read_raster_info(path)
    assert (info.grid.width, info.grid.height, info.count, info.nodata) == (7, 4, 2, (-1, -1))
    assert info.path == path and info.dtypes == ("float32", "float32") and info.placed_by == "transform"
    assert info.grid.crs.to_epsg() == 32652 and info.grid.transform == UTM["transform"]
    plain = read_raster_info(write_raster(tmp_path / "a.png", np.ones((6, 9, 3), np.uint8)))
    assert plain.grid.crs is None and plain.grid.transform is None and plain.placed_by == ""
    assert plain.nodata == (None, None, None)


def test_a_south_up_file_is_north_up_here(info):
    stored = Affine(1, 0, 500000, 0, 1, 3999980)
    turned = info("a.tif", crs=UTM["crs"], transform=stored)
    assert turned.grid.transform == UTM["transform"] and turned.orientation.flip_rows
    check_same_grid(turned, info("b.tif", **UTM))


@no_warnings
def test_a_world_file_is_a_georeference_and_none_is_not_a_warning(tmp_path, write_raster):
    first, second = (write_raster(tmp_path / name, np.ones((6, 9, 3), np.uint8)) for name in ("a.png", "b.png"))
    check_same_grid(read_raster_info(first), read_raster_info(second))
    first.with_suffix(".pgw").write_text("10\n0\n0\n-10\n5\n95\n")
    assert read_raster_info(first).grid.transform.a == 10
    check_same_grid(read_raster_info(first), read_raster_info(second))
    second.with_suffix(".pgw").write_text("10\n0\n0\n-10\n25\n95\n")
    with pytest.raises(DataError, match="different places"):
        check_same_grid(read_raster_info(first), read_raster_info(second))


def test_a_world_file_is_compared_with_a_georeference(tmp_path, info):
    """One that is in the same coordinates lies there; one in others does not, and the message says what it lacks."""
    placed = info("a.tif", **UTM)
    plain = info("b.png")
    world = plain.path.with_suffix(".pgw")
    world.write_text("1\n0\n0\n-1\n500000.5\n3999999.5\n")
    check_same_grid(placed, read_raster_info(plain.path))
    world.write_text("1\n0\n0\n-1\n0.5\n19.5\n")
    with pytest.raises(DataError, match=r"b\.png has coordinates but no coordinate reference system: give it"):
        check_same_grid(placed, read_raster_info(plain.path))


def test_a_pair_must_be_on_one_grid(info):
    rgb = info("rgb.tif", **UTM)
    check_same_grid(rgb, info("same.tif", **UTM))
    check_same_grid(rgb, info("plain.tif"))
    check_same_grid(rgb, info("nearly.tif", crs=UTM["crs"], transform=from_origin(500000.4, 4000000.4, 1, 1)))
    with pytest.raises(DataError, match=r"rgb\.tif is 30x20 pixels and .*small\.tif 30x19.*resample"):
        check_same_grid(rgb, info("small.tif", size=(19, 30), **UTM))
    with pytest.raises(DataError, match=r"EPSG:32652 and .*zone\.tif in EPSG:32651"):
        check_same_grid(rgb, info("zone.tif", crs="EPSG:32651", transform=UTM["transform"]))
    with pytest.raises(DataError, match=r"shifted\.tif cover different places .*5\.0 pixels"):
        check_same_grid(rgb, info("shifted.tif", crs=UTM["crs"], transform=from_origin(500005, 4000000, 1, 1)))
    with pytest.raises(DataError, match=r"coarse\.tif cover different places"):
        check_same_grid(rgb, info("coarse.tif", crs=UTM["crs"], transform=from_origin(500000, 4000000, 2, 2)))


@pytest.mark.parametrize("crs", [
    "EPSG:32652+5773",
    CRS.from_wkt(CRS.from_epsg(32652).to_wkt().replace("WGS 84 / UTM zone 52N", "my own zone")),
    "+proj=utm +zone=52 +datum=WGS84 +units=m",
])  # fmt: skip
def test_one_system_is_one_however_it_is_spelled(info, crs):
    check_same_grid(info("a.tif", **UTM), info("b.tif", crs=crs, transform=UTM["transform"]))


def test_longitudes_are_angles(info):
    east = {"crs": "EPSG:4326", "transform": from_origin(-74, 40, 1e-4, 1e-4)}
    check_same_grid(info("a.tif", **east), info("b.tif", **{**east, "transform": from_origin(286, 40, 1e-4, 1e-4)}))


def test_two_systems_whose_pixels_are_the_same_places_are_one_grid(info):
    """NAD 83 and WGS 84 differ in name, though PROJ's way between them, the ballpark one, leaves the numbers."""
    transform = from_origin(-74, 40, 1e-4, 1e-4)
    check_same_grid(
        info("a.tif", crs="EPSG:4326", transform=transform), info("b.tif", crs="EPSG:4269", transform=transform)
    )


def gcps(path):
    points = [GroundControlPoint(row, column, 5e5 + column, 4e6 - row) for row in (0, 20) for column in (0, 30)]
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, CRS.from_epsg(32652))


def rpcs(path):
    ones = [1.0] + [0.0] * 19
    with rasterio.open(path, "r+") as file:
        file.rpcs = RPC(
            height_off=0, height_scale=1, lat_off=36, lat_scale=1, line_off=10, line_scale=10, long_off=129,
            long_scale=1, samp_off=15, samp_scale=15, line_num_coeff=ones, line_den_coeff=ones,
            samp_num_coeff=ones, samp_den_coeff=ones, err_bias=None, err_rand=None,
        )  # fmt: skip


@pytest.mark.parametrize("place, words", [
    (gcps, r"a\.tif is placed by ground control points only; put it on a grid first \(gdalwarp"),
    (rpcs, r"a\.tif is placed by a sensor model \(RPCs\) only; orthorectify it first \(gdalwarp -rpc\)"),
])  # fmt: skip
def test_what_lies_on_no_grid_is_refused(tmp_path, write_raster, info, place, words):
    path = write_raster(tmp_path / "a.tif", np.zeros((20, 30), np.uint8))
    place(path)
    with pytest.raises(DataError, match=words):
        RasterSource(path)
    for other in (info("b.tif", **UTM), info("c.tif")):
        with pytest.raises(DataError, match=words):
            check_same_grid(other, read_raster_info(path))


@pytest.mark.parametrize(
    "transform", [Affine(1, 0, 5, 0, 0, 7), Affine(0, 0, 5, 0, 0, 7), Affine(1, 0, np.nan, 0, -1, 0)]
)
def test_a_transform_without_extent_is_refused(tmp_path, write_raster, transform):
    path = write_raster(tmp_path / "a.tif", np.zeros((20, 30), np.uint8), crs=UTM["crs"], transform=transform)
    with pytest.raises(DataError, match=r"a\.tif has a geotransform that maps its pixels onto a line"):
        RasterSource(path)


@needs_real_data
def test_real_world_files():
    for scene in ("048", "263"):
        pair = [read_raster_info(REAL_DATA / "volkov_s1s2" / f"{kind}_{scene}.png") for kind in ("rgb", "sar")]
        assert pair[0].grid.transform is not None
        check_same_grid(*pair)
