"""Terrain correction of Sentinel-1 GRD, compared with the zero-Doppler geometry that made the product."""

import builtins

import numpy as np
import pyproj
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.products import Preparation, prepare_image
from mm_ovseg.raster import Grid, StackedBand, write_band_stack, write_geotiff
from tests.products.sentinel1.test_grd import read_map, spot_places, to_map
from tests.products.sentinel1_geometry import Geometry
from tests.products.sentinel1_product import NAME, write_grd

GEOMETRY = Geometry(160, 200, 20.0)
SPOTS = np.stack(np.meshgrid(np.arange(20.3, 150, 30), np.arange(25.6, 190, 30)), axis=-1).reshape(-1, 2)
ELLIPSOIDAL, PLAIN = CRS.from_epsg(4979), CRS.from_epsg(4326)


def write_product(parent, height=0.0):
    """A product with bright spots at :data:`SPOTS` (line, pixel), whose control points have a height."""
    lines, pixels = (
        np.exp(-np.square(np.arange(length)[:, None] - SPOTS[:, axis]) / 8) for axis, length in ((0, 160), (1, 200))
    )
    numbers = np.sqrt(3000**2 + 30000**2 * (lines @ pixels.T)).round().astype(np.uint16)
    return write_grd(parent, {"VV": numbers}, GEOMETRY, height=height)


def write_model(path, heights, *, crs=ELLIPSOIDAL, side=0.5, **options):
    """An elevation model around the product; heights is a number, or a function of longitudes and latitudes."""
    longitude, latitude = (float(value) for value in GEOMETRY.ground(80, 100))
    size = 80
    step = side / size
    transform = Affine(step, 0, longitude - side / 2, 0, -step, latitude + side / 2)
    places = transform @ tuple(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5))
    values = heights(*places) if callable(heights) else np.full((size, size), heights)
    write_geotiff(path, values.astype(np.float32)[np.newaxis], Grid(size, size, crs, transform), **options)
    return path


def prepared(product, folder, model):
    pytest.importorskip("sarsen")
    return prepare_image(product, "sar", Preparation(folder=folder / "out", dem=model))


def largest_error(image, heights):
    """The largest distance in pixels between bright spots on the map and their true places at their heights."""
    values, grid = read_map(image)
    expected = to_map(grid, *GEOMETRY.ground(*SPOTS.T, heights))
    return np.abs(spot_places(values[..., 0], grid, expected) - expected).max() / GEOMETRY.spacing


@pytest.mark.parametrize("height", [-400.0, 0.0, 1234.5, 8000.0])
def test_places_on_flat_ground_are_right_to_a_tenth_of_a_pixel(tmp_path, height):
    product = write_product(tmp_path, height)
    image = prepared(product, tmp_path, write_model(tmp_path / "dem.tif", height))
    assert largest_error(image, height) < 0.1
    assert image.about["terrain_corrected"] is True and not image.warnings


def test_places_on_hills_are_right_to_a_tenth_of_a_pixel(tmp_path):
    def hills(longitudes, latitudes):
        return 300 + 200 * np.sin(60 * longitudes) * np.cos(60 * latitudes)

    heights = np.full(len(SPOTS), 300.0)
    for _ in range(20):  # until the heights are those of the places where the radar sees them
        heights = hills(*GEOMETRY.ground(*SPOTS.T, heights))
    assert np.ptp(heights) > 100
    model = write_model(tmp_path / "dem.tif", hills, side=0.1)
    assert largest_error(prepared(write_product(tmp_path, 300.0), tmp_path, model), heights) < 0.1


def test_a_mosaic_of_heights_that_change_is_read_again(tmp_path):
    product, model = write_product(tmp_path, 1000.0), write_model(tmp_path / "dem.tif", 0.0)
    write_band_stack(tmp_path / "dem.vrt", [StackedBand(files=(model,))])
    prepared(product, tmp_path, tmp_path / "dem.vrt")
    write_model(model, 1000.0)
    image = prepared(product, tmp_path, tmp_path / "dem.vrt")
    assert largest_error(image, 1000.0) < 0.1 and image.about["elevation_model"] == str(tmp_path / "dem.vrt")


def test_without_terrain_correction_hills_are_elsewhere(tmp_path):
    image = prepare_image(write_product(tmp_path, 0.0), "sar", Preparation(folder=tmp_path / "out"))
    assert largest_error(image, 0.0) < 0.1
    assert largest_error(image, 60.0) > 3


def test_a_model_in_another_system_gives_the_same(tmp_path):
    """A global grid of columns in another direction, in a projection."""
    product = write_product(tmp_path, 500.0)
    values, _ = read_map(prepared(product, tmp_path / "a", write_model(tmp_path / "a.tif", 500.0)))
    transform = Affine(30_000, 0, 1_000_000, 0, -30_000, 6_500_000)
    model = tmp_path / "b.tif"
    write_geotiff(model, np.full((1, 60, 60), 500, np.float32), Grid(60, 60, CRS.from_epsg(3857), transform))
    image = prepared(product, tmp_path / "b", model)
    np.testing.assert_allclose(read_map(image)[0], values, rtol=1e-4)
    assert "does not say what its heights refer to" in image.warnings[0]


def test_heights_that_refer_to_nothing_are_taken_from_the_ellipsoid_with_a_warning(tmp_path):
    image = prepared(write_product(tmp_path, 100.0), tmp_path, write_model(tmp_path / "dem.tif", 100.0, crs=PLAIN))
    (warning,) = image.warnings
    assert "gdal_edit -a_srs EPSG:4326+3855" in warning and largest_error(image, 100.0) < 0.1


def test_heights_above_the_geoid_need_its_grid(tmp_path):
    model = write_model(tmp_path / "dem.tif", 100.0, crs=CRS.from_string("EPSG:4326+5773"))
    with pytest.raises(DataError, match="heights in EGM96 height, but PROJ has no grid.*sync --file us_nga_egm96_15"):
        prepared(write_product(tmp_path), tmp_path, model)


def test_heights_above_the_geoid_are_converted(tmp_path):
    """With a grid in which the geoid is 47 m above the ellipsoid everywhere."""
    world = Grid(361, 181, ELLIPSOIDAL, Affine(1, 0, -180.5, 0, -1, 90.5))
    tags = {"TYPE": "VERTICAL_OFFSET_GEOGRAPHIC_TO_VERTICAL", "AREA_OR_POINT": "Point"}
    undulation = np.full((1, 181, 361), 47, np.float32)
    write_geotiff(tmp_path / "us_nga_egm96_15.tif", undulation, world, descriptions=["geoid_undulation"], tags=tags)
    before = pyproj.datadir.get_data_dir()
    try:
        pyproj.datadir.append_data_dir(str(tmp_path))
        model = write_model(tmp_path / "dem.tif", 100.0, crs=CRS.from_string("EPSG:4326+5773"))
        image = prepared(write_product(tmp_path, 147.0), tmp_path, model)
    finally:
        pyproj.datadir.set_data_dir(before)
    assert largest_error(image, 147.0) < 0.1 and not image.warnings


def test_a_model_that_covers_a_part_leaves_the_rest_without_data(tmp_path):
    def only_west(longitudes, latitudes):
        return np.where(longitudes < float(GEOMETRY.ground(80, 100)[0]), 100.0, np.nan)

    product = write_product(tmp_path, 100.0)
    model = write_model(tmp_path / "dem.tif", only_west, side=0.1, nodata=float("nan"))
    for _ in range(2):  # computed, and used again
        image = prepared(product, tmp_path, model)
        values, _ = read_map(image)
        assert any(f"covers 5{last}% of {NAME}" in image.warnings[0] for last in "012") or "49%" in image.warnings[0]
    assert 0.3 < np.isfinite(values).mean() < 0.45


@pytest.mark.parametrize("value", [-32768.0, 20000.0])
def test_what_is_no_height_is_no_data(tmp_path, value):
    model = write_model(tmp_path / "dem.tif", value)
    with pytest.raises(DataError, match="has no heights in the image"):
        prepared(write_product(tmp_path), tmp_path, model)
    assert not list((tmp_path / "out").glob("*"))


def test_models_that_do_not_fit_are_refused(tmp_path):
    product, far = write_product(tmp_path), tmp_path / "far.tif"
    values = np.zeros((1, 10, 10), np.float32)
    write_geotiff(far, values, Grid(10, 10, PLAIN, Affine(0.1, 0, 100, 0, -0.1, 10)))
    bands, unplaced = tmp_path / "bands.tif", tmp_path / "unplaced.tif"
    write_geotiff(bands, np.zeros((2, 10, 10), np.float32), Grid(10, 10, PLAIN, Affine(0.1, 0, 5, 0, -0.1, 46)))
    write_geotiff(unplaced, values, Grid(10, 10))
    feet = write_model(tmp_path / "feet.tif", 100.0, crs=CRS.from_string("EPSG:4326+8228"))
    for model, message in (
        (far, rf"far\.tif covers no part of {NAME}"),
        (bands, r"bands\.tif has several bands"),
        (unplaced, r"unplaced\.tif has no coordinate reference system"),
        (feet, r"feet\.tif has heights in foot"),
        (tmp_path / "missing.tif", r"missing\.tif does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            prepared(product, tmp_path, model)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    model, product = write_model(tmp_path / "dem.tif", 0.0), write_product(tmp_path)
    original = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("sarsen"):
            raise ImportError("No module named 'sarsen'")
        return original(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"needs sarsen .*pip install 'mm_ovseg\[terrain-correction\]'"):
        prepare_image(product, "sar", Preparation(folder=tmp_path / "out", dem=model))
