"""RGB and SAR on one grid: the scene is a smooth function of the place on the ground, so every value can be checked."""

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_coordinates

from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import RGBReader, SARReader

UTM = CRS.from_epsg(32633)
DB = SARReader(scale="db", value_range=(0, 255))
ORIGIN = from_origin(500_000, 5_000_000, 10, 10)


def ground(x, y):
    """A value 20..230 for each place (UTM zone 33, metres)."""
    return 125 + 75 * np.sin(x / 150) + 30 * np.cos(y / 110)


def places(transform, height, width, crs=UTM):
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = transform @ (columns.ravel(), rows.ravel())
    if crs is not None:
        x, y = transform_coordinates(crs, UTM, x, y)
    return np.reshape(x, (height, width)), np.reshape(y, (height, width))


def write(path, values, transform, crs=UTM, **profile):
    values = values[None] if values.ndim == 2 else values
    count, height, width = values.shape
    profile = {"driver": "GTiff", "dtype": values.dtype, "crs": crs, "transform": transform, **profile}
    with rasterio.open(path, "w", width=width, height=height, count=count, **profile) as file:
        file.write(values)
        if count == 3 and values.dtype == np.uint8:
            file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    return path


def write_ground(path, transform, height, width, crs=UTM, dtype="uint8", bands=1, factor=1, **profile):
    values = (factor * ground(*places(transform, height, width, crs))).astype(dtype)
    return write(path, np.repeat(values[None], bands, axis=0), transform, crs, **profile)


@pytest.fixture
def rgb(tmp_path):
    return write_ground(tmp_path / "rgb.tif", ORIGIN, 60, 80, bands=3)


def test_files_on_one_grid_are_read_as_they_are(rgb, tmp_path):
    sar = write_ground(tmp_path / "sar.tif", ORIGIN, 60, 80)
    with SceneSource(rgb, sar) as source:
        assert (source.grid.height, source.grid.width, source.covered) == (60, 80, 1.0)
        window = source.read(10, 20, 16, 24)
    expected = ground(*places(ORIGIN, 60, 80)).astype(np.uint8)[10:26, 20:44]
    np.testing.assert_array_equal(window.image, np.repeat(expected[..., None], 3, axis=2))
    np.testing.assert_array_equal(window.sar_image[..., 0], expected)
    assert window.image_valid.all() and window.sar_valid.all()


def test_beyond_the_last_row_and_column_nothing_is_valid(rgb):
    with SceneSource(rgb, None) as source:
        window = source.read(50, 70, 16, 24)
    assert window.image.shape == (16, 24, 3) and window.sar_image.shape == (16, 24, 3)
    assert window.image_valid[:10, :10].all()
    assert window.image_valid.sum() == 100 and not window.image[~window.image_valid].any()
    assert not window.sar_valid.any()


@pytest.mark.parametrize("case", ["finer", "coarser", "other zone", "degrees", "rotated", "no EPSG code"])
def test_sar_on_any_grid_is_put_on_that_of_rgb(rgb, tmp_path, case):
    # Of a smooth function the mean in power is nearly that in decibels, if neighbours differ by a decibel at most.
    decibels = {"dtype": "float32", "factor": 0.1}
    reader = SARReader(scale="db", value_range=(0, 25.5))
    zone_34 = CRS.from_epsg(32634)
    if case == "finer":
        sar = write_ground(tmp_path / "s.tif", from_origin(499_950, 5_000_030, 4, 4), 180, 240, **decibels)
    elif case == "coarser":
        sar = write_ground(tmp_path / "s.tif", from_origin(499_950, 5_000_030, 17, 17), 50, 70, **decibels)
    elif case == "rotated":
        turned = Affine.translation(499_900, 5_000_450) @ Affine.rotation(-20) @ Affine.scale(7, -7)
        sar = write_ground(tmp_path / "s.tif", turned, 260, 260, **decibels)
    else:
        crs = {"other zone": zone_34, "degrees": CRS.from_epsg(4326)}.get(case)
        crs = crs or CRS.from_proj4("+proj=laea +lat_0=45.3 +lon_0=14.7 +ellps=GRS80 +units=m")
        x, y = places(ORIGIN, 60, 80)
        x, y = (np.array(values) for values in transform_coordinates(UTM, crs, x.ravel(), y.ravel()))
        step = 1e-4 if case == "degrees" else 8
        west, north = x.min() - 5 * step, y.max() + 5 * step
        size = [int(np.ptp(values) / step) + 10 for values in (y, x)]
        sar = write_ground(tmp_path / "s.tif", from_origin(west, north, step, step), *size, crs=crs, **decibels)
    with SceneSource(rgb, sar, sar_reader=reader) as source:
        assert source.covered == 1.0
        window = source.read(0, 0, 60, 80)
        part = source.read(13, 21, 20, 30)
    expected = ground(*places(ORIGIN, 60, 80))
    assert window.sar_valid.all()
    np.testing.assert_allclose(window.sar_image[..., 0], expected, atol=2.0)
    np.testing.assert_allclose(part.sar_image, window.sar_image[13:33, 21:51], atol=1e-2)  # wherever it is read from


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_where_sar_does_not_reach_it_is_not_valid(rgb, tmp_path, dtype):
    sar = write_ground(tmp_path / "s.tif", from_origin(500_402, 5_000_050, 10, 10), 40, 60, dtype=dtype)
    settings = {} if dtype == "uint8" else {"sar_reader": DB}
    with SceneSource(rgb, sar, **settings) as source:
        window = source.read(0, 0, 60, 80)
    assert 0.25 < source.covered < 0.35
    assert window.sar_valid[:34, 42:].all()
    assert not window.sar_valid[37:].any() and not window.sar_valid[:, :39].any()
    expected = ground(*places(ORIGIN, 60, 80))
    np.testing.assert_allclose(window.sar_image[:34, 42:, 0], expected[:34, 42:], atol=2)


def test_holes_in_sar_do_not_bleed(rgb, tmp_path):
    values = ground(*places(from_origin(500_003, 5_000_003, 10, 10), 62, 82)).astype("float32")
    values[20:30, 30:40] = np.nan
    sar = write(tmp_path / "s.tif", values, from_origin(500_003, 5_000_003, 10, 10))
    with SceneSource(rgb, sar, sar_reader=DB) as source:
        window = source.read(0, 0, 60, 80)
    assert not window.sar_valid[22:29, 32:39].any() and window.sar_valid[:19].all()
    valid = window.sar_valid.copy()
    valid[:, 0] = False  # half outside
    difference = np.abs(window.sar_image[..., 0] - ground(*places(ORIGIN, 60, 80)))[valid]
    assert difference.max() < 10


def test_sar_alone_on_its_own_grid(tmp_path):
    sar = write_ground(tmp_path / "s.tif", ORIGIN, 60, 80, dtype="float32")
    with SceneSource(None, sar, sar_reader=DB) as source:
        assert source.grid.shape == (60, 80) and source.grid.transform == ORIGIN and source.covered == 1
        window, edge = source.read(0, 0, 60, 80), source.read(50, 70, 20, 20)
    assert window.image.dtype == np.uint8 and not window.image.any() and not window.image_valid.any()
    assert window.sar_valid.all() and edge.sar_valid[:10, :10].all() and not edge.sar_valid[10:].any()
    np.testing.assert_array_equal(edge.sar_image[:10, :10], window.sar_image[50:, 70:])
    with SceneSource(None, sar, sar_reader=DB, ground_sampling_distance=20.0) as source:
        assert source.grid.shape == (30, 40)
    with pytest.raises(DataError, match="no image; give RGB, SAR or both"):
        SceneSource(None, None)


def test_another_ground_sampling_distance(rgb, tmp_path):
    sar = write_ground(tmp_path / "s.tif", from_origin(499_950, 5_000_030, 5, 5), 140, 190)
    for distance in (20.0, 5.0):
        with SceneSource(rgb, sar, ground_sampling_distance=distance) as source:
            grid = source.grid
            assert (grid.height, grid.width) == (600 / distance, 800 / distance)
            assert grid.crs == UTM and grid.transform == from_origin(500_000, 5_000_000, distance, distance)
            window = source.read(0, 0, grid.height, grid.width)
        expected = ground(*places(grid.transform, grid.height, grid.width))
        inner = (slice(1, -1), slice(1, -1))
        np.testing.assert_allclose(window.image[..., 1][inner], expected[inner], atol=4)
        np.testing.assert_allclose(window.sar_image[..., 1][inner], expected[inner], atol=4)


def test_sar_is_moved_by_a_shift(rgb, tmp_path):
    for name, transform in (("same", ORIGIN), ("other", from_origin(499_903, 5_000_041, 8, 8))):
        sar = write_ground(tmp_path / f"{name}.tif", transform, 100, 120) if name == "other" else rgb
        with SceneSource(rgb, sar, sar_shift=(2.5, -3.0)) as source:
            window = source.read(0, 0, 60, 80)
        x, y = places(ORIGIN @ Affine.translation(3.0, -2.5), 60, 80)
        np.testing.assert_allclose(window.sar_image[5:-5, 5:-5, 0], ground(x, y)[5:-5, 5:-5], atol=3)


def test_three_files_of_one_band_are_one_image(tmp_path, rgb):
    x, y = places(ORIGIN, 60, 80)
    values = [(40 * band + ground(x, y) / 2).astype("uint16") for band in range(3)]
    files = [write(tmp_path / f"B0{4 - band} & more.tif", values[band], ORIGIN, nodata=0) for band in range(3)]
    with SceneSource(files, rgb, rgb_reader=RGBReader(value_range=(0, 255))) as source:
        window = source.read(5, 6, 30, 40)
    np.testing.assert_array_equal(window.image, np.stack(values, axis=-1)[5:35, 6:46])
    bare = [write(tmp_path / f"bare{band}.tif", values[band], None, crs=None) for band in range(3)]
    with pytest.raises(ConfigError, match=r"^\S*bare0\.tif \(with bare1\.tif, bare2\.tif\) does not say"):
        SceneSource(bare, None, rgb_reader=RGBReader(value_range=(0, 255)), ground_sampling_distance=5.0)
    with pytest.raises(DataError, match="three files of one band each"):
        SceneSource([rgb, rgb, rgb], None)
    other = write_ground(tmp_path / "other.tif", from_origin(0, 0, 10, 10), 60, 80)
    with pytest.raises(DataError, match="cover different places"):
        SceneSource([other, files[0], files[1]], None)


def test_across_the_antimeridian(tmp_path):
    degrees = CRS.from_epsg(4326)
    east, west = from_origin(179.9, 10, 0.005, 0.005), from_origin(-180.1, 10, 0.005, 0.005)
    values = np.tile(np.linspace(10, 200, 40), (30, 1)).astype(np.uint8)
    rgb = write(tmp_path / "rgb.tif", np.stack([values] * 3), east, degrees)
    sar = write(tmp_path / "sar.tif", values, west, degrees)
    zone_1 = CRS.from_epsg(32601)
    x, y = (np.array(v) for v in transform_coordinates(degrees, zone_1, [179.9, 180.1], [9.85, 10.0]))
    metres = write(tmp_path / "zone.tif", np.full((60, 60), 77, np.uint8),
                   from_origin(x.min() - 2000, y.max() + 2000, 500, 500), zone_1)  # fmt: skip
    for file in (sar, metres):
        with SceneSource(rgb, file) as source:
            assert source.covered == 1.0
            window = source.read(0, 0, 30, 40)
        assert window.sar_valid.mean() > 0.95
        if file is sar:
            np.testing.assert_allclose(window.sar_image[1:-1, 1:-1, 0], values[1:-1, 1:-1], atol=1)


def test_rasters_that_only_ground_control_points_place_are_refused(tmp_path, rgb):
    points = [GroundControlPoint(row, column, *(ORIGIN @ (column, row))) for row in (0, 60) for column in (0, 80)]
    with rasterio.open(
        tmp_path / "gcps.tif", "w", driver="GTiff", width=80, height=60, count=1, dtype="uint8", gcps=points, crs=UTM
    ) as file:
        file.write(np.ones((60, 80), np.uint8), 1)
    for files in ((rgb, tmp_path / "gcps.tif"), (tmp_path / "gcps.tif", rgb)):
        with pytest.raises(DataError, match=r"gcps\.tif is placed by ground control points only.*gdalwarp"):
            SceneSource(*files)


def test_what_cannot_be_placed_is_said(tmp_path, rgb):
    plain = write_ground(tmp_path / "plain.png", Affine.identity(), 60, 80, crs=None, driver="PNG")
    with SceneSource(rgb, plain) as source:  # of one size: taken to be on one grid, as pairs are
        assert source.read(0, 0, 60, 80).sar_valid.all()
    small = write_ground(tmp_path / "small.png", Affine.identity(), 50, 80, crs=None, driver="PNG")
    with pytest.raises(DataError, match=r"the same size.*georeference"):
        SceneSource(rgb, small)
    with pytest.raises(DataError, match="does not exist"):
        SceneSource(rgb, tmp_path / "missing.tif")
    line = write_ground(tmp_path / "line.tif", Affine(10, 10, 0, 10, 10, 0), 60, 80, bands=3)
    with pytest.raises(DataError, match="onto a line"):
        SceneSource(line, None)


def test_an_unreadable_block_is_a_sentence(tmp_path, rgb):
    sar = write_ground(
        tmp_path / "sar.tif", ORIGIN, 60, 80, tiled=True, blockxsize=16, blockysize=16, compress="deflate"
    )
    content = bytearray(sar.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    sar.write_bytes(content)
    with SceneSource(rgb, sar) as source, pytest.raises(DataError, match=r"sar\.tif cannot be read"):
        source.read(0, 0, 60, 80)


def test_a_part_has_the_pixels_of_the_whole(rgb, tmp_path):
    sar = write_ground(tmp_path / "sar.tif", from_origin(499_900, 5_000_050, 7, 7), 130, 170, dtype="float32")
    readers = {"sar_reader": DB}
    with SceneSource(rgb, sar, **readers) as whole, SceneSource(rgb, sar, part=(11, 7, 30, 40), **readers) as part:
        assert part.grid == whole.grid.window(11, 7, 30, 40) and part.covered == whole.covered
        found, expected = part.read(5, 6, 20, 34), whole.read(16, 13, 20, 34)
        for name in ("image", "image_valid", "sar_image", "sar_valid"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
        assert part.read(20, 0, 16, 40).image_valid.any(axis=1).tolist() == [True] * 10 + [False] * 6
        image, valid = part.read_rgb((0, 0, 30, 40))
        assert np.array_equal(image, whole.read(11, 7, 30, 40).image) and valid.all()
    with SceneSource(None, sar, **readers) as source:
        image, valid = source.read_rgb((0, 0, 3, 4))
        assert image.shape == (3, 4, 3) and not image.any() and not valid.any()


@pytest.mark.parametrize("part", [(-1, 0, 5, 5), (0, 0, 61, 5), (0, 76, 5, 5), (0, 0, 0, 5)])
def test_a_part_is_within_the_scene(part, rgb):
    with pytest.raises(DataError, match="is not within .*, which has 60 rows of 80 pixels"):
        SceneSource(rgb, None, part=part)
