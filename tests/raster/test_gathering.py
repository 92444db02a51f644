"""Bands of several rasters, on one lattice: copied where they are on it, and resampled in power and to the nearest."""

from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, RasterSource, shared_lattice, write_band_stack, write_geotiff
from mm_ovseg.raster.crs import CoordinateTransform
from mm_ovseg.raster.gathering import BandSource, gather_band
from tests.products.stac_catalogue import write_area

ZONE, NEXT = CRS.from_epsg(32633), CRS.from_epsg(32634)
CORNER = (770_000.0, 5_300_000.0)  # 18.6 degrees east, so in both zones' reach


@pytest.fixture(autouse=True)
def margin(monkeypatch):
    """The margin around areas, which is left out here."""
    margin = shared_lattice.AREA_MARGIN
    monkeypatch.setattr(shared_lattice, "AREA_MARGIN", 0)
    return margin


def smooth(x, y):
    """A power that changes by 3 dB within 10 pixels or so; x and y in the first zone."""
    return 0.1 + 0.05 * np.sin(x / 90) * np.cos(y / 70)


def write(path: Path, grid: Grid, function=smooth, dtype="float32", **options) -> Path:
    """A raster of a function of the place in the first zone."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    values = function(*CoordinateTransform(grid.crs, ZONE)(*(grid.transform @ (columns, rows))))
    write_geotiff(path, values.astype(dtype)[np.newaxis], grid, **options)
    return path


def grid_at(column, row, width, height, crs=ZONE, corner=CORNER, pixel=10.0):
    return Grid(width, height, crs, Affine(pixel, 0, corner[0] + column * pixel, 0, -pixel, corner[1] - row * pixel))


def beside():
    """A grid in the next zone, whose corner is at pixel (60, -20) of the first zone's lattice."""
    x, y = CoordinateTransform(ZONE, NEXT)(np.array([CORNER[0] + 600]), np.array([CORNER[1] + 200]))
    return Grid(120, 130, NEXT, Affine(10, 0, float(x[0]), 0, -10, float(y[0])))


def gathered(tmp_path, sources, **options):
    """The values, validity and grid of gathered sources."""
    band = gather_band(sources, tmp_path / "local", **options)
    write_band_stack(tmp_path / "all.vrt", [band])
    with RasterSource(tmp_path / "all.vrt") as source:
        values, valid = source.read([1])
        valid = np.ones(values.shape, bool) if valid is None else valid
        return values[..., 0], valid[..., 0], source.grid, band


def test_decibels_of_another_zone_are_resampled_in_power(tmp_path):
    first = write(tmp_path / "a.tif", grid_at(0, 0, 100, 90))
    second = write(tmp_path / "b.tif", beside(), lambda x, y: 10 * np.log10(smooth(x, y)))
    sources = [BandSource(raster=second, name="b", unit="dB"), BandSource(raster=first, name="a", unit="power")]
    area = write_area(tmp_path / "area.geojson", CORNER[0] + 100, CORNER[1] - 300, CORNER[0] + 1500, CORNER[1] - 700)
    values, valid, grid, band = gathered(tmp_path, sources, area=area)
    assert grid.crs == ZONE and band.unit == "power" and grid == grid_at(10, 30, 140, 40)
    columns, rows = np.meshgrid(np.arange(140) + 0.5, np.arange(40) + 0.5)
    expected = smooth(*(grid.transform @ (columns, rows)))
    np.testing.assert_array_equal(values[:, :90], expected[:, :90].astype(np.float32))
    assert valid[:, :125].all()
    assert np.abs(10 * np.log10(values / expected))[:, 90:125].max() < 0.05  # of a bilinear interpolation


def test_flags_of_another_zone_are_those_of_the_nearest_pixel(tmp_path):
    def flags(x, y):
        return 1000 + (np.floor(x / 40) + np.floor(y / 40)) % 7

    first = write(tmp_path / "a.tif", grid_at(0, 0, 100, 90), flags, "uint16", nodata=1)
    second = write(tmp_path / "b.tif", beside(), flags, "uint16", nodata=1)
    sources = [BandSource(raster=path, name=path.stem) for path in (second, first)]
    area = write_area(tmp_path / "area.geojson", CORNER[0] + 100, CORNER[1] - 300, CORNER[0] + 1500, CORNER[1] - 700)
    values, valid, grid, band = gathered(tmp_path, sources, area=area, categorical=True)
    assert band.nodata == 1 and values.dtype == np.uint16 and valid[:, :125].all()
    columns, rows = np.meshgrid(np.arange(140) + 0.5, np.arange(40) + 0.5)
    expected = flags(*(grid.transform @ (columns, rows)))
    np.testing.assert_array_equal(values[:, :90], expected[:, :90])
    assert set(np.unique(values[valid])) <= set(range(1000, 1007)) and (values == expected)[:, 90:125].mean() > 0.6


@pytest.mark.parametrize("width", [100, 300])
def test_the_lattice_is_the_one_with_most_of_the_area(tmp_path, width):
    first = write(tmp_path / "a.tif", grid_at(0, 0, width, 90))
    second = write(tmp_path / "b.tif", beside())
    sources = [BandSource(raster=path, name=path.stem, unit="power") for path in (second, first)]
    assert gathered(tmp_path, sources)[2].crs == (ZONE if width == 300 else NEXT)


def test_files_with_masks_are_not_used_as_they_are(tmp_path):
    valid = np.ones((90, 100), bool)
    valid[10:20] = False
    path = write(tmp_path / "a.tif", grid_at(0, 0, 100, 90), valid=valid)
    _, found, _, band = gathered(tmp_path, [BandSource(raster=path, name="a", unit="power")])
    np.testing.assert_array_equal(found, valid)
    assert band.files == (tmp_path / "local" / "a.tif",)


def test_what_cannot_be_joined_is_one_sentence(tmp_path):
    first = write(tmp_path / "a.tif", grid_at(0, 0, 100, 90), lambda x, y: x * 0 + 9, "uint8")
    second = write(tmp_path / "b.tif", beside(), lambda x, y: x * 0 + 9, "uint8")
    sources = [BandSource(raster=path, name=path.stem) for path in (first, second)]
    with pytest.raises(DataError, match="without knowing what their values mean"):
        gather_band(sources, tmp_path)
    valid = np.eye(90, 100) < 1
    hidden = write(tmp_path / "c.tif", grid_at(0, 0, 100, 90), lambda x, y: x * 0 + 9, "uint8", valid=valid)
    with pytest.raises(DataError, match=r"c\.tif hides pixels by a mask or alpha, .* give the file itself"):
        gather_band([BandSource(raster=hidden, name="c")], tmp_path)
    with pytest.raises(DataError, match="has no band 2, only 1"):
        gather_band([BandSource(raster=first, name="a", index=2)], tmp_path)


def test_a_nodata_value_that_cannot_occur_means_nothing(tmp_path):
    path = write(tmp_path / "a.tif", grid_at(0, 0, 100, 90), lambda x, y: x * 0 + 9, "uint16")
    assert gather_band([BandSource(raster=path, name="a", nodata=-9999)], tmp_path).nodata is None
    assert gather_band([BandSource(raster=path, name="a", nodata=float("nan"))], tmp_path).nodata is None
    path = write(tmp_path / "b.tif", grid_at(0, 0, 100, 90), lambda x, y: x * 0 + 9, "uint16", nodata=0)
    assert gather_band([BandSource(raster=path, name="b", nodata=float("nan"))], tmp_path).nodata == 0


def test_there_is_a_margin_around_the_area_within_the_images(tmp_path, margin, monkeypatch):
    monkeypatch.setattr(shared_lattice, "AREA_MARGIN", margin)
    whole = grid_at(0, 0, 600, 400)
    area = write_area(tmp_path / "area.geojson", CORNER[0] + 2000, CORNER[1] - 1000, CORNER[0] + 2500, CORNER[1] - 1500)
    lattice = shared_lattice.SharedLattice([whole], area)
    (part,) = lattice.parts()
    assert (part.width, part.height) == (50 + 2 * margin, 100 + 50 + margin) and margin > 100
    assert part.transform.c == CORNER[0] + 2000 - margin * 10 and part.transform.f == CORNER[1]
