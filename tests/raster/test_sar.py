import re
from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import (
    Grid,
    Placement,
    RasterSource,
    SARReader,
    check_same_grid,
    count_polarisations,
    read_raster_info,
    read_rgb,
    read_sar,
    three_channels,
    write_geotiff,
)
from tests.conftest import no_warnings

REAL_DATA = Path(__file__).parents[3] / "shared" / "realdata"
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/realdata is not here")

PLACE = {"crs": "EPSG:32652", "transform": Affine(10, 0, 500_000, 0, -10, 4_000_000)}


def noise(shape, dtype, low=0, high=256, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


def test_the_same_pixel_gives_the_same_number_whatever_is_around_it(tmp_path, write_raster):
    scene = np.random.default_rng(1).gamma(1.0, 0.1, (32, 32)).astype(np.float32)
    whole, _ = read_sar(write_raster(tmp_path / "whole.tif", scene), scale="power")
    tile, _ = read_sar(write_raster(tmp_path / "tile.tif", scene[8:16, 4:12]), scale="power")
    np.testing.assert_array_equal(tile, whole[8:16, 4:12])


@pytest.mark.parametrize(
    ("scale", "values"),
    [("db", [-25, -12.5, 0, 9]), ("power", [10**-2.5, 10**-1.25, 1, 8]), ("AMPLITUDE", [10**-1.25, 10**-0.625, 1, 3])],
)
def test_scales_agree(tmp_path, write_raster, scale, values):
    path = write_raster(tmp_path / "sar.tif", np.array([values], dtype=np.float32))
    sar, valid = read_sar(path, scale=scale, value_range=(-25, 0))
    assert sar.dtype == np.float32 and sar.shape == (1, 4, 3) and valid.all()
    np.testing.assert_allclose(sar[0, :, 0], [0, 127.5, 255, 255], atol=1e-3)
    np.testing.assert_array_equal(sar[..., 0], sar[..., 2])


def test_8_bit_sar_is_read_as_it_is(tmp_path, write_raster):
    rgb = noise((6, 9, 3), np.uint8)
    sar, valid = read_sar(write_raster(tmp_path / "sar.png", rgb[..., 0]))
    np.testing.assert_array_equal(sar, np.dstack([rgb[..., 0]] * 3).astype(np.float32))
    assert valid.all()
    sar, _ = read_sar(write_raster(tmp_path / "three.png", rgb))
    np.testing.assert_array_equal(sar, rgb.astype(np.float32))


def test_polarisations_become_channels(tmp_path, write_raster):
    bands = np.stack([np.full((2, 2), value, dtype=np.float64) for value in (-5, -10, -15, -20)], axis=2)
    two, _ = read_sar(write_raster(tmp_path / "two.tif", bands[..., :2]), scale="db")
    np.testing.assert_allclose(two[0, 0], [204, 153, 178.5], rtol=1e-6)
    path = write_raster(tmp_path / "four.tif", bands)
    four, _ = read_sar(path, scale="db")
    np.testing.assert_allclose(four[0, 0], [204, 153, 102], rtol=1e-6)
    chosen, _ = read_sar(path, scale="db", bands=[4])
    np.testing.assert_allclose(chosen[0, 0], [51] * 3, rtol=1e-6)
    with pytest.raises(DataError, match=r"four\.tif has no band 5, only bands 1 to 4; correct INPUT\.SAR\.BANDS"):
        read_sar(path, scale="db", bands=[5])


def test_each_polarisation_may_have_a_range(tmp_path, write_raster):
    decibels = np.dstack([np.full((2, 2), -10.0), np.full((2, 2), -15.0)]).astype(np.float32)
    path = write_raster(tmp_path / "sar.tif", decibels)
    sar, _ = read_sar(path, scale="db", value_range=((-20, 0), (-25, -5)))
    np.testing.assert_allclose(sar[0, 0], [127.5, 127.5, 127.5])
    with pytest.raises(ConfigError, match=r"INPUT\.SAR\.RANGE is for 2 bands, .* is 1"):
        read_sar(path, scale="db", value_range=((-20, 0), (-25, -5)), bands=[1])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_polarisations_are_counted_again(count):
    bands = noise((5, 6, count), np.float32)
    assert count_polarisations(three_channels(bands)) == count
    assert count_polarisations(np.rint(three_channels(bands))) == count  # as tiles hold them


@no_warnings
def test_what_is_not_power_is_not_valid(tmp_path, write_raster):
    power = np.array([[0.1, 0.0, -1.0, np.nan, np.inf, -9999.0, 0.2]], dtype=np.float32)
    sar, valid = read_sar(write_raster(tmp_path / "sar.tif", power, nodata=-9999.0), scale="power")
    np.testing.assert_array_equal(valid[0], [True, False, False, False, False, False, True])
    assert np.isfinite(sar).all() and (sar[~valid] == 0).all() and (sar[valid] > 0).all()


def test_nodata_is_not_valid_in_decibel(tmp_path, write_raster):
    decibel = np.array([[-10.0, -9999.0, np.nan, 0.0]], dtype=np.float32)
    sar, valid = read_sar(write_raster(tmp_path / "sar.tif", decibel, nodata=-9999.0), scale="db")
    np.testing.assert_array_equal(valid[0], [True, False, False, True])
    assert (sar[0, 1:3] == 0).all()


def test_a_nodata_value_that_the_file_does_not_declare(tmp_path, write_raster):
    bands = noise((2, 3, 3), np.uint8, 1)
    bands[0, 0], bands[0, 1] = (0, 0, 0), (0, 9, 9)
    path = write_raster(tmp_path / "a.tif", bands)
    # A polarisation without data leaves no pixel for the others.
    assert (~read_sar(path, nodata=0)[1]).nonzero()[1].tolist() == [0, 1]
    assert read_sar(path)[1].all()


def test_files_that_are_not_what_the_config_says(tmp_path, write_raster):
    path = write_raster(tmp_path / "sar.tif", np.ones((4, 4), dtype=np.float32))
    with pytest.raises(DataError, match=r"sar\.tif holds float32 values, not 8-bit ones; set INPUT\.SAR\.SCALE"):
        read_sar(path)
    with pytest.raises(DataError, match=r"slc\.tif holds complex values; write their amplitude"):
        read_sar(write_raster(tmp_path / "slc.tif", np.ones((4, 4), dtype=np.complex64)), scale="amplitude")


@pytest.mark.parametrize("settings, words", [
    ({"scale": "decibel"}, "INPUT.SAR.SCALE is 'decibel'; choose one of 8bit, power, amplitude, db"),
    ({"scale": "db", "value_range": (0, -25)}, r"INPUT\.SAR\.RANGE is \[0, -25\]; give \[low, high\]"),
    ({"scale": "db", "value_range": ()}, r"INPUT\.SAR\.RANGE"),
    ({"scale": "db", "value_range": ((-25, 0), (0, -25))}, r"INPUT\.SAR\.RANGE is \[0, -25\]"),
    ({"scale": "db", "value_range": ((-25, 0), 3)}, r"INPUT\.SAR\.RANGE"),
    ({"bands": (1, 2, 3, 4)}, r"INPUT\.SAR\.BANDS"),
    ({"nodata": "zero"}, r"INPUT\.SAR\.NODATA is 'zero'"),
])  # fmt: skip
def test_settings_that_mean_nothing(settings, words):
    with pytest.raises(ConfigError, match=words):
        SARReader(**settings)


def test_scale_and_offset_of_a_file_are_applied_to_each_band(tmp_path, write_raster):
    stored = np.array([[[0, 200, 400], [100, 300, 500]]], dtype=np.uint16)
    path = write_raster(tmp_path / "a.tif", stored, scales=(0.001, 0.001, 0.002), offsets=(0.0, 0.1, 0.0))
    sar, _ = read_sar(path, scale="db", value_range=(0.0, 1.0))
    np.testing.assert_allclose(sar, 255 * np.array([[[0.0, 0.3, 0.8], [0.1, 0.4, 1.0]]]), rtol=1e-5)


def test_a_file_whose_zero_is_white(tmp_path, write_raster):
    grey = noise((5, 5), np.uint8)
    path = write_raster(tmp_path / "a.tif", 255 - grey, photometric="MINISWHITE")
    np.testing.assert_array_equal(read_sar(path)[0][..., 0], grey)


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("shape,dtype,settings", [
    ((7, 9), np.uint8, {}),
    ((7, 9, 1), np.uint8, {}),
    ((7, 9, 3), np.uint8, {}),
    ((7, 9, 4), np.uint8, {}),
    ((7, 9), np.float32, {"scale": "db"}),
    ((7, 9, 2), np.float64, {"scale": "DB", "value_range": (-30, 5)}),
    ((7, 9, 2), np.float32, {"scale": "db", "value_range": ((-30, 5), (-20, 0))}),
    ((7, 9, 5), np.float32, {"scale": "db"}),
    ((7, 9, 4), np.int16, {"scale": "power", "bands": [4, 2]}),
    ((7, 9, 2), np.uint16, {"scale": "amplitude", "nodata": 7}),
])  # fmt: skip
def test_an_array_is_taken_as_a_file_is(tmp_path, write_raster, shape, dtype, settings):
    array = noise(shape, dtype, *((0, 256) if np.dtype(dtype).kind in "ui" else (-30, 5)))
    array[1, 1] = 7
    if np.dtype(dtype).kind == "f":
        array[2, 3], array[4, 4] = np.nan, -np.inf
    before = array.copy()
    # Four bands of 8 bits are otherwise taken for RGB and alpha by whoever writes them.
    from_file = read_sar(write_raster(tmp_path / "sar.tif", array, photometric="MINISBLACK", alpha="no"), **settings)
    from_array = SARReader(**settings).read_array(array, "The SAR array")
    for expected, given in zip(from_file, from_array, strict=True):
        assert given.dtype == expected.dtype
        np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(array, before)


def test_what_is_masked_in_any_polarisation_has_no_data():
    mask = np.zeros((4, 5, 3), bool)
    mask[1, 2], mask[3, 0, 1] = True, True
    array = np.ma.masked_array(noise((4, 5, 3), np.uint8, 1), mask)
    sar, valid = SARReader().read_array(array, "The SAR array")
    np.testing.assert_array_equal(valid, ~mask.any(axis=2))
    assert (sar[~valid] == 0).all() and (sar[valid] > 0).all()


def test_numbers_beyond_float32_have_no_data():
    array = np.full((2, 2), -10.0)
    array[0, 0] = 1e300
    _, valid = SARReader(scale="db").read_array(array, "The SAR array")
    assert valid.tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("array,settings,message", [
    (np.zeros((4, 4), np.float32), {}, r"holds float32 values, not 8-bit ones; set INPUT\.SAR\.SCALE"),
    (np.zeros((4, 4), np.complex64), {"scale": "amplitude"}, "complex"),
    (np.zeros((4, 4), bool), {"scale": "db"}, "holds bool values; give numbers"),
    (np.zeros(4, np.uint8), {}, r"shape \(4,\); give \(height, width\) or"),
    (np.zeros((1, 4, 4, 1), np.uint8), {}, r"shape \(1, 4, 4, 1\)"),
    (np.zeros((4, 4, 0), np.uint8), {}, "no pixels"),
    (np.zeros((4, 4, 2), np.uint8), {"bands": [3]}, r"no band 3, only bands 1 to 2; correct INPUT\.SAR\.BANDS"),
])  # fmt: skip
def test_arrays_that_are_not_sar(array, settings, message):
    with pytest.raises(DataError, match=f"The SAR array .*{message}"):
        SARReader(**settings).read_array(array, "The SAR array")


# ---------------------------------------------------------------- what a file probably does not mean


def test_concerns(tmp_path, write_raster):
    def concerns(array, profile=None, **settings):
        with RasterSource(write_raster(tmp_path / "a.tif", array, **(profile or {}))) as source:
            return SARReader(**settings).concerns(source)

    decibels = noise((64, 64), np.float32, -20, -5)
    assert concerns(decibels, scale="db") == []
    power = (10 ** (decibels / 10)).astype(np.float32)
    assert concerns(power, scale="power") == []
    (taken_for_decibels,) = concerns(power, scale="db", value_range=(-25, 0))
    assert "become 255, the high end of INPUT.SAR.RANGE [-25, 0] dB" in taken_for_decibels
    assert "check INPUT.SAR.SCALE and INPUT.SAR.RANGE" in taken_for_decibels
    for unit in ("power", "amplitude"):
        (negative,) = concerns(decibels, scale=unit)
        assert "100% of the SAR pixels" in negative and "negative and count as no data; check INPUT.SAR.SC" in negative
    assert concerns(decibels, {"nodata": float(decibels[0, 0])}, scale="db") == []
    mostly = np.where(np.arange(64) < 6, np.float32(-0.001), power)  # noise is subtracted from some products
    assert concerns(mostly, scale="power") == []
    assert concerns(np.where(np.arange(64) < 32, np.float32(-9999), power), {"nodata": -9999}, scale="power") == []
    decibels[:16] = 0
    zeros = r"25% of the SAR pixels of .*a.tif are exactly 0, .*; if they mean no data, say so \(INPUT.SAR.NODATA 0"
    assert re.match(zeros, concerns(decibels, scale="db")[0])
    assert concerns(decibels, {"nodata": 0}, scale="db") == concerns(decibels, scale="db", nodata=0) == []


# ---------------------------------------------------------------- real files


@needs_real_data
def test_real_decibel_pairs():
    for rgb in sorted((REAL_DATA / "terramind").glob("rgb_*.tif")):
        sar_path = rgb.with_name(rgb.name.replace("rgb_", "sar_"))
        check_same_grid(read_raster_info(rgb), read_raster_info(sar_path))
        image, image_valid = read_rgb(rgb)
        sar, sar_valid = read_sar(sar_path, scale="db")
        assert image.shape == sar.shape == (224, 224, 3) and image_valid.any() and sar_valid.any()
        assert 20 < sar[sar_valid].mean() < 235 and image.std() > 1


@needs_real_data
def test_real_sar_that_covers_part_of_the_scene():
    rgb, sar_path = (REAL_DATA / "sn6_solaris" / f"{kind}_rotterdam.tif" for kind in ("rgb", "sar"))
    check_same_grid(read_raster_info(rgb), read_raster_info(sar_path))
    _, valid = read_sar(sar_path, scale="db")
    assert not valid[:76].any() and valid[80:].mean() > 0.9


def onto(path, factor, **settings):
    """SAR on a grid whose pixels are larger by a factor."""
    with RasterSource(path) as source:
        grid = source.grid
        size = (grid.width // factor, grid.height // factor)
        target = Grid(*size, grid.crs, grid.transform @ Affine.scale(factor))
        return SARReader(**settings).read_onto(source, Placement(grid, target), (0, 0, *size[::-1]))


@pytest.mark.parametrize("factor", [2, 4])
def test_one_scene_is_one_whatever_its_unit_where_it_is_resampled(tmp_path, write_raster, factor):
    """Speckle of one look: means of amplitudes are 1 dB too low, those of decibels 2.5."""
    power = (0.05 * np.random.default_rng(0).exponential(size=(64, 64, 2)) + 1e-6).astype(np.float32)
    numbers = {"power": power, "amplitude": np.sqrt(power), "db": 10 * np.log10(power)}
    truth = 10 * np.log10(power.reshape(64 // factor, factor, 64 // factor, factor, 2).mean(axis=(1, 3)))
    for scale, values in numbers.items():
        path = write_raster(tmp_path / f"{scale}.tif", values, **PLACE)
        sar, valid = onto(path, factor, scale=scale, value_range=(-40.0, 0.0))
        assert valid.all()
        np.testing.assert_allclose(sar[..., :2] / 255 * 40 - 40, truth, atol=1e-3)
    grey = np.sqrt(power / power.max()) * 255
    sar, _ = onto(write_raster(tmp_path / "8bit.tif", grey.astype(np.uint8), **PLACE), factor)
    mean = np.sqrt((np.floor(grey) ** 2).reshape(64 // factor, factor, 64 // factor, factor, 2).mean(axis=(1, 3)))
    np.testing.assert_allclose(sar[..., :2], mean, rtol=1e-5)


def test_nodata_of_one_polarisation_has_no_part_in_its_neighbours(tmp_path, write_raster):
    values = np.full((8, 8, 2), -10, np.float32)
    values[:, :3, 1] = -9999
    path = write_raster(tmp_path / "a.tif", values, nodata=-9999, **PLACE)
    sar, valid = onto(path, 2, scale="db", value_range=(-20.0, 0.0))
    assert valid.tolist() == [[False, True, True, True]] * 4
    np.testing.assert_allclose(sar[valid], 127.5, rtol=1e-5)


def test_numbers_that_are_not_decibels_are_not_averaged_as_such(tmp_path, write_raster):
    """100 times the decibels: powers of 10 with such exponents are 0 in float32."""
    values = np.full((8, 8), -1200, np.int16)
    path = write_raster(tmp_path / "a.tif", values, **PLACE)
    settings = {"scale": "db", "value_range": (-2500.0, 0.0)}
    np.testing.assert_allclose(read_sar(path, **settings)[0], 255 * 13 / 25, rtol=1e-5)
    with pytest.raises(
        ConfigError, match=r"\[-2500.0, 0.0\] is not in dB, so .*a.tif cannot be resampled; let the file"
    ):
        onto(path, 2, **settings)
    scaled = write_raster(tmp_path / "b.tif", values, scales=[0.01], **PLACE)
    np.testing.assert_allclose(onto(scaled, 2, scale="db")[0], 255 * 13 / 25, rtol=1e-5)
    # Beyond all that is measured, but a number.
    values[::2] = 4000
    path = write_raster(tmp_path / "c.tif", values, **PLACE)
    assert set(np.unique(onto(path, 2, scale="db")[0])) == {255}


NAMED = np.array([[1e-2, 1e-1, 1.0]], dtype=np.float32)


def named(path, *, values=NAMED, descriptions=("Sigma0_VV",), **tags):
    write_geotiff(path, values[np.newaxis], Grid(3, 1), descriptions=descriptions, **tags)
    return path


@pytest.mark.parametrize(
    ("values", "metadata"),
    [
        (NAMED, {}),
        (10 * np.log10(NAMED), {"descriptions": ["Gamma0_VV_db"]}),
        (10 * np.log10(NAMED), {"descriptions": ["x"], "band_tags": {"long_name": "gamma0 [dB]"}}),
        (np.sqrt(NAMED), {"descriptions": [], "tags": {"UNITS": "amplitude"}}),
        (NAMED, {"descriptions": ["Gamma0_VV_db"], "band_tags": {"units": "sigma0_linear"}}),
    ],
)
def test_names_say_the_unit_of_floats_if_the_setting_does_not(tmp_path, values, metadata):
    image, valid = read_sar(named(tmp_path / "sar.tif", values=values, **metadata), value_range=(-20, 0))
    assert valid.all()
    np.testing.assert_allclose(image[0, :, 0], [0, 127.5, 255], atol=1e-3)


def test_settings_and_declared_units_come_before_names(tmp_path):
    decibels = 10 * np.log10(NAMED)
    image, _ = read_sar(named(tmp_path / "a.tif", values=decibels), scale="db", value_range=(-20, 0))
    np.testing.assert_allclose(image[0, :, 0], [0, 127.5, 255], atol=1e-3)
    image, _ = read_sar(named(tmp_path / "b.tif", values=decibels, units=["dB"]), value_range=(-20, 0))
    np.testing.assert_allclose(image[0, :, 0], [0, 127.5, 255], atol=1e-3)


@pytest.mark.parametrize("values", [NAMED, NAMED.astype(np.uint16), np.array([[0, 128, 255]], np.uint8)])
def test_names_that_say_no_unit_leave_files_as_they_were(tmp_path, values):
    path = named(tmp_path / "sar.tif", values=values, descriptions=["Sigma0_VV" if values.dtype.kind == "u" else "VV"])
    if values.dtype == np.uint8:
        np.testing.assert_array_equal(read_sar(path)[0][0, :, 0], [0, 128, 255])
    else:
        with pytest.raises(DataError, match="not 8-bit ones"):
            read_sar(path)
