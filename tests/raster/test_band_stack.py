"""Band stacks join rasters without resampling them, say what their values mean, and hide what a mask says."""

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import (
    Grid,
    RasterSource,
    StackedBand,
    StackMask,
    open_raster,
    read_rgb,
    read_sar,
    write_band_stack,
    write_geotiff,
)

CORNER = Affine(10, 0, 500_000, 0, -10, 4_000_000)
COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
DIGITAL_NUMBERS = np.random.default_rng(0).integers(1001, 4500, (3, 20, 30), dtype=np.uint16)


def write(path, values, transform=CORNER, epsg=32633, **options):
    grid = Grid(values.shape[1], values.shape[0], CRS.from_epsg(epsg), transform)
    write_geotiff(path, values[np.newaxis], grid, **options)
    return path


def reflectance(folder, **options):
    """Three files of digital numbers with Sentinel-2's offset, as bands."""
    names = ("B04", "B03", "B02")
    return [
        StackedBand(
            files=(write(folder / f"{name}.tif", values),),
            description=name,
            meaning=meaning,
            **{"scale": 1e-4, "offset": -0.1, "nodata": 0, "unit": "reflectance", **options},
        )
        for name, values, meaning in zip(names, DIGITAL_NUMBERS, COLORS, strict=True)
    ]


@pytest.mark.parametrize("any_format", [False, True])
def test_a_stack_of_reflectance_is_read_by_the_fixed_curve(tmp_path, any_format):
    write_band_stack(tmp_path / "rgb.vrt", reflectance(tmp_path))
    image, valid = read_rgb(tmp_path / "rgb.vrt", any_format=any_format)
    expected = np.clip((DIGITAL_NUMBERS.astype(float) - 1000) / 10000 / 0.3 * 255, 0, 255).transpose(1, 2, 0)
    assert valid.all() and np.abs(image - expected).max() <= 0.501
    with RasterSource(tmp_path / "rgb.vrt") as source:
        assert source.unit([1, 2, 3]) == "reflectance"
        assert [band.description for band in source.bands] == ["B04", "B03", "B02"]
        assert source.grid.transform == CORNER and source.grid.crs.to_epsg() == 32633


def test_a_range_in_digital_numbers_is_refused_for_reflectance(tmp_path):
    write_band_stack(tmp_path / "rgb.vrt", reflectance(tmp_path))
    with pytest.raises(ConfigError, match=r"rgb\.vrt is in reflectance"):
        read_rgb(tmp_path / "rgb.vrt", value_range=(0, 3000))
    half, _ = read_rgb(tmp_path / "rgb.vrt", value_range=(0.0, 0.6))
    full, _ = read_rgb(tmp_path / "rgb.vrt")
    assert half.mean() < full.mean()


def test_bands_in_another_order_are_refused_for_reflectance(tmp_path):
    write_band_stack(tmp_path / "rgb.vrt", reflectance(tmp_path))
    with pytest.raises(ConfigError, match=r"BANDS is \[3, 2, 1\], but .*rgb\.vrt declares \[1, 2, 3\] as red"):
        read_rgb(tmp_path / "rgb.vrt", bands=(3, 2, 1))
    for bands in ((1, 2, 3), (1, 1, 1)):
        assert read_rgb(tmp_path / "rgb.vrt", bands=bands)[1].all()


def test_a_mask_of_larger_pixels_hides_what_is_not_valid(tmp_path):
    classes = np.full((10, 15), 4, np.uint8)
    classes[2, 3], classes[9, 14] = 0, 1
    mask = write(tmp_path / "scl.tif", classes, CORNER @ Affine.scale(2))
    write_band_stack(tmp_path / "rgb.vrt", reflectance(tmp_path), StackMask(files=(mask,), valid=range(1, 12)))
    _, valid = read_rgb(tmp_path / "rgb.vrt")
    expected = np.ones((20, 30), bool)
    expected[4:6, 6:8] = False
    np.testing.assert_array_equal(valid, expected)


def test_nodata_is_nodata_in_a_stack(tmp_path):
    bands = reflectance(tmp_path)
    values = DIGITAL_NUMBERS[:, :].copy()
    values[:, 3, 4] = 0
    for band, of_band in zip(bands, values, strict=True):
        write(band.files[0], of_band)
    write_band_stack(tmp_path / "rgb.vrt", bands)
    _, valid = read_rgb(tmp_path / "rgb.vrt")
    assert not valid[3, 4] and valid.sum() == valid.size - 1


def test_neighbours_on_one_lattice_are_joined(tmp_path):
    """Two bursts that overlap by 10 columns, of which the second lacks data in some."""
    power = np.random.default_rng(1).gamma(2, 0.05, (20, 50)).astype(np.float32)
    first, second = power[:, :30].copy(), power[:, 20:].copy()
    second[:, :5] = np.nan
    east = CORNER @ Affine.translation(20, 0)
    files = (write(tmp_path / "a.tif", first), write(tmp_path / "b.tif", second, east))
    masks = []
    for name, transform, values in (("ma", CORNER, [255, 0, 1]), ("mb", east, [255, 0, 0])):
        values = np.repeat(np.array([values], np.uint8), 20, axis=0).repeat(10, axis=1)
        masks.append(write(tmp_path / f"{name}.tif", values, transform))
    band = StackedBand(files=files, description="VV", nodata=np.nan, unit="power")
    write_band_stack(tmp_path / "sar.vrt", [band], StackMask(files=tuple(masks), valid={0}, outside=255))
    with RasterSource(tmp_path / "sar.vrt") as source:
        assert source.grid.shape == (20, 50) and source.grid.transform == CORNER
        values, valid = source.read([1])
    shown = np.broadcast_to(
        np.r_[np.zeros(10, bool), np.ones(10, bool), np.zeros(10, bool), np.ones(20, bool)], (20, 50)
    )
    np.testing.assert_array_equal(valid[..., 0], shown)
    np.testing.assert_array_equal(values[..., 0][shown], power[shown])
    image, _ = read_sar(tmp_path / "sar.vrt")  # though INPUT.SAR.SCALE is 8bit
    decibels = 10 * np.log10(power[shown])
    assert np.abs(image[shown][:, 0] - np.clip((decibels + 25) / 25 * 255, 0, 255)).max() < 1e-3


def test_the_same_stack_is_not_written_again(tmp_path):
    bands = reflectance(tmp_path)
    write_band_stack(tmp_path / "rgb.vrt", bands)
    before = (tmp_path / "rgb.vrt").stat()
    write_band_stack(tmp_path / "rgb.vrt", bands)
    after = (tmp_path / "rgb.vrt").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.parametrize(
    ("transform", "epsg", "message"),
    [
        (CORNER, 32634, "different reference systems"),
        (CORNER @ Affine.translation(0.5, 0), 32633, "different sizes or places"),
        (CORNER @ Affine.scale(2), 32633, "different sizes or places"),
    ],
)
def test_files_that_need_resampling_are_refused(tmp_path, transform, epsg, message):
    files = (
        write(tmp_path / "a.tif", DIGITAL_NUMBERS[0]),
        write(tmp_path / "b.tif", DIGITAL_NUMBERS[0], transform, epsg),
    )
    with pytest.raises(DataError, match=message):
        write_band_stack(tmp_path / "rgb.vrt", [StackedBand(files=files)])


def test_bands_of_different_units_are_refused(tmp_path):
    first = StackedBand(files=(write(tmp_path / "a.tif", DIGITAL_NUMBERS[0]),), unit="power")
    second = StackedBand(files=(write(tmp_path / "b.tif", DIGITAL_NUMBERS[0]),), unit="dB")
    write_band_stack(tmp_path / "sar.vrt", [first, second])
    with pytest.raises(DataError, match="different units"):
        read_sar(tmp_path / "sar.vrt")


def test_a_geotiff_keeps_the_units_of_its_bands(tmp_path):
    values = np.full((4, 5), -12.5, np.float32)
    write(tmp_path / "sar.tif", values, units=["dB"])
    with open_raster(tmp_path / "sar.tif") as file:
        assert file.units == ("dB",)
    image, _ = read_sar(tmp_path / "sar.tif")
    np.testing.assert_allclose(image, 127.5)
