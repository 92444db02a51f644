from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine
from rasterio.enums import ColorInterp

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import Grid, Placement, RasterSource, RGBReader, read_rgb

REAL_DATA = Path(__file__).parents[3] / "shared" / "realdata"
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/realdata is not here")


def random_rgb(height=6, width=9):
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)


def noise(shape, dtype, low=0, high=256, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "with #space! and?.png", "ä.TIF"])
def test_8_bit_rgb_is_read_as_it_is(tmp_path, write_raster, name):
    image, valid = read_rgb(write_raster(tmp_path / name, random_rgb()))
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, random_rgb())
    assert valid.dtype == bool and valid.shape == (6, 9) and valid.all()


def test_jpeg_rgb_is_read(tmp_path, write_raster):
    image, valid = read_rgb(write_raster(tmp_path / "a.jpg", np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)))
    assert np.abs(image.astype(int) - (200, 100, 50)).max() < 6 and valid.all()


def test_grey_and_palette_files_become_three_channels(tmp_path, write_raster):
    grey = random_rgb()[..., 0]
    image, _ = read_rgb(write_raster(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))

    indices = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    colors = {0: (10, 20, 30, 255), 1: (40, 50, 60, 255)}
    path = write_raster(tmp_path / "palette.png", indices, colormap=colors)
    for settings in ({}, {"value_range": (0, 3000)}):  # a range for the other files of the folder
        image, _ = read_rgb(path, **settings)
        np.testing.assert_array_equal(image[0], [(10, 20, 30), (40, 50, 60)])
    stretched, _ = read_rgb(path, value_range=(0, 51))
    np.testing.assert_array_equal(stretched[0, 0], (50, 100, 150))


def test_alpha_says_what_is_valid(tmp_path, write_raster):
    alpha = np.full((6, 9), 255, dtype=np.uint8)
    alpha[2, 3] = 0
    image, valid = read_rgb(write_raster(tmp_path / "a.png", np.dstack([random_rgb(), alpha])))
    assert image.shape == (6, 9, 3)
    np.testing.assert_array_equal(valid, alpha > 0)
    assert (image[2, 3] == 0).all() and (image[2, 4] == random_rgb()[2, 4]).all()

    grey_alpha = np.dstack([random_rgb()[..., 0], alpha])
    image, valid = read_rgb(write_raster(tmp_path / "b.png", grey_alpha))
    assert image.shape == (6, 9, 3) and not valid[2, 3]


def test_what_a_mask_hides_in_one_of_three_files_is_not_valid(tmp_path, write_raster):
    """What lies below a mask is not a colour, other than a number that may mean no data or 0."""
    place = {"crs": "EPSG:32652", "transform": Affine(10, 0, 5e5, 0, -10, 4e6)}
    values, masks = random_rgb(), np.ones((6, 9, 3), bool)
    masks[:2, :, 0] = masks[:, :3, 1] = masks[5:, 6:, 2] = False
    paths = [
        write_raster(tmp_path / f"{band}.tif", values[..., band], mask=masks[..., band], **place) for band in range(3)
    ]
    image, valid = read_rgb(paths)
    np.testing.assert_array_equal(valid, masks.all(axis=2))
    np.testing.assert_array_equal(image, np.where(valid[..., None], values, 0))
    with RasterSource(paths) as source:
        coarse = Placement(source.grid, Grid(3, 2, source.grid.crs, source.grid.transform @ Affine.scale(3)))
        image, valid = RGBReader().read_onto(source, coarse, (0, 0, 2, 3))
    assert valid.tolist() == [[False, True, True], [False, True, True]]
    np.testing.assert_allclose(image[1, 1], values[3:, 3:6].mean(axis=(0, 1)), atol=1)


def test_nodata_pixels_are_those_without_any_channel(tmp_path, write_raster):
    rgb = random_rgb()
    rgb[1, 1] = 0
    rgb[2, 2] = (0, 7, 7)  # no red, but data
    _, valid = read_rgb(write_raster(tmp_path / "a.tif", rgb, nodata=0))
    assert not valid[1, 1] and valid[2, 2] and valid.sum() == valid.size - 1


def test_a_nodata_value_outside_of_the_range_tells_of_each_channel(tmp_path, write_raster):
    values = np.full((2, 2, 3), 900, dtype=np.int16)
    values[0, 0, 1] = -9999
    _, valid = read_rgb(write_raster(tmp_path / "a.tif", values, nodata=-9999), value_range=(0, 3000))
    np.testing.assert_array_equal(valid, [[False, True], [True, True]])


def test_range_scales_other_types_and_bands_select(tmp_path, write_raster):
    reflectance = np.zeros((2, 2, 12), dtype=np.uint16)
    reflectance[..., 3], reflectance[..., 2], reflectance[..., 1] = 1000, 2000, 9000
    path = write_raster(tmp_path / "s2.tif", reflectance)
    image, valid = read_rgb(path, bands=[4, 3, 2], value_range=(0, 4000))
    np.testing.assert_array_equal(image[0, 0], [64, 128, 255])
    assert valid.all()
    with pytest.raises(DataError, match=r"s2\.tif holds uint16 values; set INPUT\.RGB\.RANGE"):
        read_rgb(path)
    with pytest.raises(DataError, match=r"s2\.tif has no band 13, only bands 1 to 12; correct INPUT\.RGB\.BANDS"):
        read_rgb(path, bands=[13, 3, 2], value_range=(0, 4000))


@pytest.mark.parametrize("settings, words", [
    ({"bands": [1, 2]}, r"INPUT\.RGB\.BANDS is \[1, 2\]; give three"),
    ({"value_range": (5, 5)}, r"INPUT\.RGB\.RANGE is \[5, 5\]; give \[low, high\]"),
    ({"value_range": (5,)}, r"INPUT\.RGB\.RANGE"),
    ({"value_range": ("a", "b")}, r"INPUT\.RGB\.RANGE"),
    ({"value_range": (float("nan"), 1)}, r"INPUT\.RGB\.RANGE"),
    ({"nodata": "black"}, r"INPUT\.RGB\.NODATA is 'black'; give a number, or None"),
    ({"nodata": True}, r"INPUT\.RGB\.NODATA"),
])  # fmt: skip
def test_settings_that_mean_nothing(settings, words):
    with pytest.raises(ConfigError, match=words):
        RGBReader(**settings)


def test_a_range_beyond_8_bits_is_not_for_files_of_8_bits(tmp_path, write_raster):
    """A folder may hold both: the same image in 8 and in 16 bits is one image."""
    rgb = random_rgb()
    wide = rgb.astype(np.uint16) * 10
    first, _ = read_rgb(write_raster(tmp_path / "a.tif", rgb), value_range=(0, 2550))
    second, _ = read_rgb(write_raster(tmp_path / "b.tif", wide), value_range=(0, 2550))
    np.testing.assert_array_equal(first, rgb)
    np.testing.assert_array_equal(second, rgb)
    stretched, _ = read_rgb(tmp_path / "a.tif", value_range=(0, 100))  # one that such a file can reach
    np.testing.assert_allclose(stretched, np.rint(np.minimum(rgb * 2.55, 255)), atol=1)


def test_black_of_8_bits_is_a_colour_whatever_the_range(tmp_path, write_raster):
    rgb = random_rgb()
    rgb[0, 0], rgb[1, 1] = (0, 7, 7), 0
    path = write_raster(tmp_path / "a.tif", rgb, nodata=0)
    image, valid = read_rgb(path, value_range=(300, 3000))
    np.testing.assert_array_equal(image, rgb)
    assert valid.sum() == valid.size - 1 and not valid[1, 1]


def test_8_bits_with_a_scale_are_numbers_of_the_range(tmp_path, write_raster):
    stored = np.full((2, 2, 3), 100, dtype=np.uint8)
    path = write_raster(tmp_path / "a.tif", stored, scales=(20.0,) * 3, offsets=(0.0,) * 3)  # up to 5100
    np.testing.assert_array_equal(read_rgb(path, value_range=(0, 4000))[0], np.full((2, 2, 3), 128))  # 2000 of 4000


def test_nan_in_a_float_image_is_not_valid(tmp_path, write_raster):
    values = np.full((3, 3, 3), 0.5, dtype=np.float32)
    values[0, 0, 1], values[1, 1, 0] = np.nan, np.inf
    image, valid = read_rgb(write_raster(tmp_path / "a.tif", values), value_range=(0, 1))
    assert valid.sum() == 7 and not valid[0, 0] and not valid[1, 1]
    assert (image[0, 0] == 0).all() and (image[2, 2] == 128).all()


def test_two_bands_are_not_rgb(tmp_path, write_raster):
    path = write_raster(tmp_path / "a.tif", np.zeros((4, 4, 2), dtype=np.uint8))
    with pytest.raises(DataError, match=r"a\.tif has two bands, which are not an RGB image"):
        read_rgb(path)


def test_several_files_are_three_bands_or_the_config_chooses(tmp_path, write_raster):
    paths = [write_raster(tmp_path / f"{band}.tif", random_rgb()[..., band]) for band in range(3)]
    np.testing.assert_array_equal(read_rgb(paths)[0], random_rgb())
    colors = write_raster(tmp_path / "colors.tif", random_rgb(), photometric="rgb")
    for files in (paths[:2], [*paths, paths[0]], [colors] * 3):
        with pytest.raises(DataError, match=r"tif\) has \d bands; give three files of one band each"):
            read_rgb(files)
    np.testing.assert_array_equal(read_rgb([*paths, colors], bands=(5, 1, 6))[0], random_rgb()[..., [1, 0, 2]])


def test_a_fourth_band_that_is_not_alpha_is_left_out(tmp_path, write_raster):
    bands = np.dstack([random_rgb(), np.zeros((6, 9), dtype=np.uint8)])
    meanings = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    image, valid = read_rgb(write_raster(tmp_path / "a.tif", bands, colorinterp=meanings, photometric="MINISBLACK"))
    np.testing.assert_array_equal(image, random_rgb())
    assert valid.all()


def test_an_alpha_band_that_is_asked_for_is_data(tmp_path, write_raster):
    bands = np.dstack([random_rgb(), np.zeros((6, 9), dtype=np.uint8)])
    meanings = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write_raster(tmp_path / "a.tif", bands, colorinterp=meanings)
    assert not read_rgb(path)[1].any()
    image, valid = read_rgb(path, bands=(4, 3, 2))
    assert valid.all()
    np.testing.assert_array_equal(image, bands[..., [3, 2, 1]])


def test_the_bands_that_a_file_calls_red_green_and_blue(tmp_path, write_raster):
    values = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    meanings = [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    path = write_raster(tmp_path / "bgr.tif", values, colorinterp=meanings)
    np.testing.assert_array_equal(read_rgb(path)[0], values[..., [3, 2, 1]])
    np.testing.assert_array_equal(read_rgb(path, bands=(1, 2, 3))[0], values[..., :3])


def test_scale_and_offset_of_a_file_are_applied_to_each_band(tmp_path, write_raster):
    stored = np.array([[[0, 200, 400], [100, 300, 500]]], dtype=np.uint16)
    path = write_raster(tmp_path / "a.tif", stored, scales=(0.001, 0.001, 0.002), offsets=(0.0, 0.1, 0.0))
    image, _ = read_rgb(path, value_range=(0.0, 1.0))
    np.testing.assert_array_equal(image, np.rint(255 * np.array([[[0.0, 0.3, 0.8], [0.1, 0.4, 1.0]]])))


def test_a_file_whose_zero_is_white(tmp_path, write_raster):
    grey = random_rgb()[..., 0]
    path = write_raster(tmp_path / "a.tif", 255 - grey, photometric="MINISWHITE")
    np.testing.assert_array_equal(read_rgb(path)[0][..., 0], grey)
    wide = write_raster(tmp_path / "b.tif", 65535 - grey.astype(np.uint16) * 100, photometric="MINISWHITE")
    np.testing.assert_array_equal(read_rgb(wide, value_range=(0, 25500))[0][..., 0], grey)


def test_a_nodata_value_that_the_file_does_not_declare(tmp_path, write_raster):
    rgb = random_rgb()
    rgb[0, 0], rgb[0, 1] = (0, 0, 0), (0, 9, 9)
    path = write_raster(tmp_path / "a.tif", rgb)
    assert (~read_rgb(path, nodata=0)[1]).nonzero()[1].tolist() == [0]
    assert read_rgb(path)[1].all()


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("shape,dtype,settings", [
    ((7, 9, 3), np.uint8, {}),
    ((7, 9, 5), np.uint8, {"bands": [5, 1, 2]}),
    ((7, 9, 3), np.uint8, {"value_range": (50, 200)}),
    ((7, 9, 3), np.uint8, {"value_range": (0, 3000)}),
    ((7, 9, 12), np.uint16, {"bands": [4, 3, 2], "value_range": (0, 200)}),
    ((7, 9, 3), np.float64, {"value_range": (0, 200)}),
    ((7, 9, 3), np.uint16, {"value_range": (0, 200), "nodata": 7}),
])  # fmt: skip
def test_an_array_is_taken_as_a_file_is(tmp_path, write_raster, shape, dtype, settings):
    array = noise(shape, dtype)
    array[1, 1] = 7
    if dtype is np.float64:
        array[2, 3, 1], array[4, 4, 0] = np.nan, np.inf
    before = array.copy()
    from_file = read_rgb(write_raster(tmp_path / "rgb.tif", array), **settings)
    from_array = RGBReader(**settings).read_array(array, "The RGB array")
    for expected, given in zip(from_file, from_array, strict=True):
        assert given.dtype == expected.dtype
        np.testing.assert_array_equal(given, expected)
    assert from_array[1].all() == (dtype is not np.float64 and "nodata" not in settings)
    np.testing.assert_array_equal(array, before)


def test_what_is_masked_in_all_channels_has_no_data():
    mask = np.zeros((4, 5, 3), bool)
    mask[1, 2], mask[3, 0, 1] = True, True
    array = np.ma.masked_array(noise((4, 5, 3), np.uint8, 1), mask)
    image, valid = RGBReader().read_array(array, "The RGB array")
    np.testing.assert_array_equal(valid, ~mask.all(axis=2))  # one channel is enough, as in files
    assert (image[1, 2] == 0).all() and not isinstance(image, np.ma.MaskedArray)


@pytest.mark.parametrize("array,settings,message", [
    (np.zeros((4, 4, 3), np.float32), {}, r"holds float32 values; set INPUT\.RGB\.RANGE"),
    (np.zeros((4, 4, 3), bool), {"value_range": (0, 1)}, "holds bool values; give numbers"),
    (np.full((4, 4, 3), None), {"value_range": (0, 1)}, "holds object values; give numbers"),
    (np.zeros((4, 4, 4), np.uint8), {}, r"shape \(4, 4, 4\); give \(height, width, 3\)"),
    (np.zeros((3, 4, 4), np.uint8), {}, r"shape \(3, 4, 4\); give \(height, width, 3\)"),
    (np.zeros((4, 4), np.uint8), {}, r"shape \(4, 4\); give \(height, width, 3\)"),
    (np.zeros((4, 4), np.uint8), {"bands": [1, 1, 1]}, r"shape \(4, 4\)"),
    (np.zeros((0, 4, 3), np.uint8), {}, "no pixels"),
    (np.zeros((4, 4, 3), np.uint8), {"bands": [4, 3, 2]}, r"no band 4, only bands 1 to 3; correct INPUT\.RGB\.BANDS"),
])  # fmt: skip
def test_arrays_that_are_not_rgb(array, settings, message):
    with pytest.raises(DataError, match=f"The RGB array .*{message}"):
        RGBReader(**settings).read_array(array, "The RGB array")


# ---------------------------------------------------------------- what a file probably does not mean


def test_concerns(tmp_path, write_raster):
    def concerns(array, profile=None, **settings):
        with RasterSource(write_raster(tmp_path / "a.tif", array, **(profile or {}))) as source:
            return RGBReader(**settings).concerns(source)

    rgb = noise((300, 300, 3), np.uint8, 20, 230)
    assert concerns(rgb) == []
    wide = rgb.astype(np.uint16) * 10
    assert concerns(wide, value_range=(0, 2550)) == []
    (low,) = concerns(wide, value_range=(3000, 60000))
    assert "100% of the RGB values" in low and "become 0, the low end of INPUT.RGB.RANGE [3000, 60000]" in low
    (high,) = concerns(wide, value_range=(0, 100))
    assert "become 255, the high end" in high and "check INPUT.RGB.RANGE" in high
    rgb[:, :90] = 0
    (zeros,) = concerns(rgb)
    assert "30% of the RGB pixels" in zeros and "INPUT.RGB.NODATA 0" in zeros
    assert concerns(rgb, nodata=0) == concerns(rgb, {"nodata": 0}) == []


# ---------------------------------------------------------------- back into the file


def test_an_image_goes_back_into_the_bands_that_it_came_from(tmp_path, write_raster):
    rgb = random_rgb()
    files = {
        "8bit": (rgb, {}, {}),
        "16bit": (rgb.astype(np.uint16) * 10, {}, {"value_range": (0, 2550)}),
        "scaled": (
            rgb.astype(np.uint16) * 20 + 1000,
            {"scales": (1e-4,) * 3, "offsets": (-0.1,) * 3},
            {"value_range": (0, 0.51)},
        ),
        "mixed": (rgb, {}, {"value_range": (0, 10000)}),
        "bands": (np.dstack([rgb, rgb]), {}, {"bands": (6, 1, 2)}),
    }
    for name, (stored, profile, settings) in files.items():
        reader = RGBReader(**settings)
        with RasterSource(write_raster(tmp_path / f"{name}.tif", stored, **profile)) as source:
            back = reader.unread(reader.read(source)[0], source)
            for values, band in zip(back, reader.choose(source), strict=True):
                assert values.dtype == stored.dtype
                np.testing.assert_allclose(values, stored[..., band - 1], atol=0 if "bit" in name else 1)


# ---------------------------------------------------------------- real files


@needs_real_data
def test_real_multispectral_image():
    image, valid = read_rgb(
        REAL_DATA / "sen12mscr" / "s2_ROIs1970_fall_139_p839.tif", bands=[4, 3, 2], value_range=(0, 3000)
    )
    assert valid.all() and 10 < image.mean() < 245
