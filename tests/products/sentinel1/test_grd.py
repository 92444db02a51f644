"""Sentinel-1 GRD: the right backscatter at the right place, from folders, manifests and zips."""

import json
import shutil

import numpy as np
import pytest
from pyproj import Transformer

from mm_ovseg.errors import DataError
from mm_ovseg.products import Preparation, is_product, prepare_image
from mm_ovseg.raster import Grid, RasterSource, read_sar, write_geotiff
from tests.products.sentinel1_geometry import Geometry
from tests.products.sentinel1_product import NAME, gamma_table, noise_factor, noise_table, write_grd, zipped

# A whole swath of 250 km with few pixels, of 400 m, so that its grid is as curved as a true one.
LINES, SAMPLES, SPACING = 425, 625, 400.0
SWATH = Geometry(LINES, SAMPLES, SPACING)
NUMBER = 3000


@pytest.fixture(scope="module")
def swath(tmp_path_factory):
    """A product with bright spots on ground of one backscatter, and the spots' lines and pixels."""
    rng = np.random.default_rng(0)
    cells = np.stack(np.meshgrid(np.arange(30, LINES - 30, 40), np.arange(30, SAMPLES - 30, 40)), axis=-1)
    spots = (cells + rng.uniform(-8, 8, cells.shape)).reshape(-1, 2)
    lines, pixels = np.arange(LINES), np.arange(SAMPLES)
    profiles = [np.exp(-np.square(axis[:, None] - spots[:, k]) / 8) for k, axis in enumerate((lines, pixels))]
    amplitude = np.sqrt(NUMBER**2 + 30000**2 * (profiles[0] @ profiles[1].T))
    numbers = {"VV": amplitude.round().astype(np.uint16), "VH": np.full((LINES, SAMPLES), NUMBER, np.uint16)}
    return write_grd(tmp_path_factory.mktemp("swath"), numbers, SWATH), spots


@pytest.fixture(scope="module")
def on_map(swath, tmp_path_factory):
    return prepare_image(swath[0], "sar", Preparation(folder=tmp_path_factory.mktemp("map")))


def small(parent, geometry=None, numbers=None, **options):
    """A small product of one value; its polarisations are VV and VH."""
    geometry = geometry or Geometry(60, 80)
    image = np.full((geometry.lines, geometry.samples), NUMBER, np.uint16)
    return write_grd(parent, numbers or {"VH": image, "VV": image}, geometry, **options)


def read_map(image):
    """Values (H, W, bands) and grid of a prepared image; NaN where not valid."""
    with RasterSource(image.paths) as source:
        assert source.unit([1]) == "power"
        values, valid = source.read(source.data_bands())
        return values if valid is None else np.where(valid, values, np.nan), source.grid


def spot_places(values, grid, expected, reach=7):
    """The centroids (N, 2), in map coordinates, of bright spots near expected ones."""
    columns, rows = ~grid.transform @ tuple(expected.T)
    found = []
    for column, row in zip(np.floor(columns).astype(int), np.floor(rows).astype(int), strict=True):
        window = values[row - reach : row + reach + 1, column - reach : column + reach + 1]
        weights = np.clip(window - np.median(window) * 1.5, 0, None)
        y, x = np.mgrid[row - reach : row + reach + 1, column - reach : column + reach + 1] + 0.5
        found.append([(weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()])
    return np.stack(grid.transform @ tuple(np.transpose(found)), axis=1)


def to_map(grid, longitudes, latitudes):
    return np.stack(Transformer.from_crs(4326, grid.crs.to_epsg(), always_xy=True).transform(longitudes, latitudes), 1)


def test_bright_spots_are_in_their_place_to_a_tenth_of_a_pixel(swath, on_map):
    values, grid = read_map(on_map)
    expected = to_map(grid, *SWATH.ground(*swath[1].T))
    assert grid.crs.to_epsg() == 32633 and grid.transform.a == SPACING and len(expected) > 100
    assert np.abs(spot_places(values[..., 0], grid, expected) - expected).max() < 0.1 * SPACING


def test_backscatter_is_gamma_nought_without_noise(swath, on_map):
    """VH has one digital number everywhere, so that each place's backscatter follows from the tables alone."""
    values, grid = read_map(on_map)
    rng = np.random.default_rng(1)
    lines, pixels = rng.uniform(5, LINES - 5, 500), rng.uniform(5, SAMPLES - 30, 500)
    places = to_map(grid, *SWATH.ground(lines, pixels))
    columns, rows = np.floor(~grid.transform @ tuple(places.T)).astype(int)
    # Where the pixel's centre is in the image: beside the place, by an offset that is linear within a pixel.
    centres = np.stack(grid.transform @ (columns + 0.5, rows + 0.5), axis=1)
    ahead = [to_map(grid, *SWATH.ground(lines + down, pixels + right)) - places for down, right in ((1, 0), (0, 1))]
    shifts = np.linalg.solve(np.stack(ahead, axis=-1), (centres - places)[..., np.newaxis])[..., 0]
    lines, pixels = lines + shifts[:, 0], pixels + shifts[:, 1]
    expected = power_at(lines, pixels)
    decibels = 10 * np.log10(values[rows, columns, 1])
    at_seam = np.abs(pixels - SAMPLES // 2 + 0.5) < 1  # of two swaths, where noise jumps
    assert np.abs(decibels - 10 * np.log10(expected))[~at_seam].max() < 1e-4


def power_at(lines, pixels):
    """Gamma nought of VH at places in the image, from the formulas of the tables; they are written every 40 pixels."""

    def table(function, step, *arguments):
        first = np.floor(arguments[-1] / step) * step
        share = (arguments[-1] - first) / step
        before, after = (function(*arguments[:-1], place) for place in (first, first + step))
        return before * (1 - share) + after * share

    factor = np.where(pixels < SAMPLES // 2 - 0.5, table(noise_factor, 20, lines), 1)
    noise = table(noise_table, 40, lines, pixels) * factor
    gamma = table(lambda line, pixel: gamma_table("VH", line, pixel), 40, lines, pixels)
    return (NUMBER**2 - noise) / gamma**2


def test_what_is_written_says_what_it_is(on_map):
    assert on_map.about["bands"] == ["VV", "VH"] and on_map.about["unit"] == "power"
    assert on_map.about["ids"] == [NAME] and on_map.about["sensor"] == "Sentinel-1A SAR"
    assert on_map.about["acquired"] == ["2022-01-25T05:26:57.123456+00:00"]
    assert on_map.about["terrain_corrected"] is False
    assert on_map.about["acquisitions"][0]["relative_orbit"] == "139"
    assert len(on_map.warnings) == 1 and "not terrain-corrected" in on_map.warnings[0]
    image, valid = read_sar(on_map.paths)
    assert 0.5 < valid.mean() < 0.8 and image[valid].min() > 0


def test_what_is_outside_of_the_image_or_of_the_swath_has_no_data(tmp_path):
    numbers = np.full((60, 80), NUMBER, np.uint16)
    numbers[:, :20] = 0
    folder = small(tmp_path, numbers={"VV": numbers})
    values, grid = read_map(prepare_image(folder, "sar", Preparation(folder=tmp_path / "out")))
    share = np.isfinite(values).sum() * abs(grid.transform.determinant) / (60 * 80 * 100)
    assert abs(share - 0.75) < 0.03


def test_dark_water_below_the_noise_stays_a_measurement(tmp_path):
    image = np.full((60, 80), 30, np.uint16)  # 900, less than the noise
    image_on_map = prepare_image(small(tmp_path, numbers={"VV": image}), "sar", Preparation(folder=tmp_path / "out"))
    values, _ = read_map(image_on_map)
    _, valid = read_sar(image_on_map.paths)
    assert valid.any() and (np.isfinite(values[..., 0]) == valid).all()
    assert np.nanmax(values) == pytest.approx(1e-5)


@pytest.mark.parametrize("form", ["manifest", "zip", "renamed", "relative", "cloud-optimised"])
def test_all_forms_of_a_product_give_the_same(tmp_path, monkeypatch, form):
    folder = small(tmp_path / "a")
    expected, grid = read_map(prepare_image(folder, "sar", Preparation(folder=tmp_path / "whole")))
    if form == "manifest":
        given = folder / "manifest.safe"
    elif form == "zip":
        given = zipped(folder, tmp_path / "download.zip")
    elif form == "renamed":
        given = shutil.copytree(folder, tmp_path / "München")
    elif form == "cloud-optimised":
        given = folder
        for image in list(folder.rglob("*.tiff")):
            image.rename(image.with_name(f"{image.stem}-cog.tiff"))
        manifest = folder / "manifest.safe"
        manifest.write_text(manifest.read_text().replace(".tiff", "-cog.tiff").replace(">GRD<", ">GRD-COG<"))
    else:
        monkeypatch.chdir(folder)
        given = "."
    assert is_product(given, "sar") and not is_product(given, "rgb")
    values, own = read_map(prepare_image(given, "sar", Preparation(folder=tmp_path / "out")))
    np.testing.assert_array_equal(values, expected)
    assert own == grid


def test_other_files_are_not_taken_for_products(tmp_path):
    write_geotiff(tmp_path / "a.tif", np.ones((1, 4, 5), np.float32), Grid(5, 4))
    (tmp_path / "S1A_IW_20220125T052657_RTC20").mkdir()
    (tmp_path / "S2A.SAFE").mkdir()
    (tmp_path / "S2A.SAFE" / "manifest.safe").write_text("<a/>")
    for name in ("a.tif", "S1A_IW_20220125T052657_RTC20", "S2A.SAFE", "missing", "missing.zip", "."):
        assert not is_product(tmp_path / name, "sar")


def test_only_the_area_is_computed(swath, on_map, tmp_path):
    whole, grid = read_map(on_map)
    longitudes, latitudes = SWATH.ground(np.array([200, 200, 210, 210]), np.array([300, 310, 310, 300]))
    ring = [[float(x), float(y)] for x, y in zip(longitudes, latitudes, strict=True)]
    polygon = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": polygon}))
    part, own = read_map(
        prepare_image(swath[0], "sar", Preparation(folder=tmp_path / "out", area=tmp_path / "area.geojson"))
    )
    column, row = (round(value) for value in ~grid.transform @ (own.transform.c, own.transform.f))
    assert own.width < grid.width / 2 and own.height < grid.height
    np.testing.assert_allclose(part, whole[row : row + own.height, column : column + own.width], rtol=1e-5)


def test_an_area_elsewhere_is_refused(tmp_path):
    polygon = {"type": "Polygon", "coordinates": [[[100, 1], [101, 1], [101, 2], [100, 1]]]}
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": polygon}))
    with pytest.raises(DataError, match=rf"area\.geojson is outside of {NAME}"):
        prepare_image(small(tmp_path), "sar", Preparation(folder=tmp_path / "out", area=tmp_path / "area.geojson"))


def test_a_product_across_the_antimeridian_is_in_one_piece(tmp_path):
    geometry = Geometry(60, 80, 100.0, node=183.59)
    longitudes, _ = geometry.ground(np.array([30, 30]), np.array([0, 79]))
    assert longitudes[0] > 179 and longitudes[1] < -179
    values, grid = read_map(prepare_image(small(tmp_path, geometry), "sar", Preparation(folder=tmp_path / "out")))
    assert grid.crs.to_epsg() in (32601, 32660) and grid.width < 150
    assert np.isfinite(values[..., 0]).sum() > 0.9 * 60 * 80


def test_the_poles_have_their_own_map(tmp_path):
    geometry = Geometry(60, 80, 5000.0, argument=88.0)
    values, grid = read_map(prepare_image(small(tmp_path, geometry), "sar", Preparation(folder=tmp_path / "out")))
    assert grid.crs.to_epsg() == 3413 and np.isfinite(values).any()


def test_a_computed_file_is_used_again_only_for_the_same_product(tmp_path):
    folder = small(tmp_path)
    preparation = Preparation(folder=tmp_path / "out")
    prepare_image(folder, "sar", preparation)
    (first,) = preparation.folder.glob("*.tif")
    before = first.stat().st_mtime_ns
    prepare_image(folder, "sar", preparation)
    assert first.stat().st_mtime_ns == before and len(list(preparation.folder.glob("*.tif"))) == 1
    shutil.rmtree(folder)
    small(tmp_path, numbers={"VV": np.full((60, 80), 2 * NUMBER, np.uint16)})
    values, _ = read_map(prepare_image(folder, "sar", preparation))
    assert len(list(preparation.folder.glob("*.tif"))) == 2 and values.shape[2] == 1


def test_neighbouring_products_are_joined(tmp_path):
    """Two slices of one pass, in the zone of the first."""
    geometry = Geometry(60, 80, 100.0)
    following = Geometry(60, 80, 100.0, argument=45.0 + np.degrees(geometry.rate) * 55 * geometry.interval)
    folders = [small(tmp_path, geometry), small(tmp_path, following, name=NAME[:-4] + "0001")]
    image = prepare_image(folders, "sar", Preparation(folder=tmp_path / "out"))
    values, grid = read_map(image)
    area = np.isfinite(values[..., 0]).sum() / (60 * 80)
    assert len(image.about["ids"]) == 2 and len(image.warnings) == 2 and 1.8 < area < 2.0


def test_products_of_other_polarisations_are_not_joined(tmp_path):
    second = small(tmp_path, name=NAME[:-4] + "0001", numbers={"VV": np.full((60, 80), NUMBER, np.uint16)})
    with pytest.raises(DataError, match="has VV and VH, but .*0001.SAFE VV; map them one by one"):
        prepare_image([small(tmp_path), second], "sar", Preparation(folder=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
