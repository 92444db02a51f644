import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.windows import Window

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import (
    check_has_data,
    check_same_grid,
    read_label,
    read_raster_info,
    read_rgb,
    read_sar,
)

UTM = {"crs": "EPSG:32652", "transform": from_origin(500000, 4000000, 1, 1)}
REAL_DATA = Path(__file__).parents[3] / "shared" / "realdata"
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/realdata is not here")


def random_rgb(height=6, width=9):
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)


# ---------------------------------------------------------------- RGB


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
    image, _ = read_rgb(write_raster(tmp_path / "palette.png", indices, colormap=colors))
    np.testing.assert_array_equal(image[0], [(10, 20, 30), (40, 50, 60)])


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


def test_nodata_pixels_are_those_without_any_channel(tmp_path, write_raster):
    rgb = random_rgb()
    rgb[1, 1] = 0
    rgb[2, 2] = (0, 7, 7)  # no red, but data
    _, valid = read_rgb(write_raster(tmp_path / "a.tif", rgb, nodata=0))
    assert not valid[1, 1] and valid[2, 2] and valid.sum() == valid.size - 1


def test_range_scales_other_types_and_bands_select(tmp_path, write_raster):
    reflectance = np.zeros((2, 2, 12), dtype=np.uint16)
    reflectance[..., 3], reflectance[..., 2], reflectance[..., 1] = 1000, 2000, 9000
    path = write_raster(tmp_path / "s2.tif", reflectance)
    image, valid = read_rgb(path, bands=[4, 3, 2], value_range=(0, 4000))
    np.testing.assert_array_equal(image[0, 0], [64, 128, 255])
    assert valid.all()
    with pytest.raises(DataError, match=r"s2\.tif holds uint16 values; set INPUT\.RGB\.RANGE"):
        read_rgb(path)
    with pytest.raises(DataError, match=r"s2\.tif has no band 13, but bands 1 to 12; correct INPUT\.RGB\.BANDS"):
        read_rgb(path, bands=[13, 3, 2], value_range=(0, 4000))
    with pytest.raises(ConfigError, match=r"INPUT\.RGB\.BANDS"):
        read_rgb(path, bands=[1, 2])
    with pytest.raises(ConfigError, match=r"INPUT\.RGB\.RANGE"):
        read_rgb(path, value_range=(5, 5))


def test_nan_in_a_float_image_is_not_valid(tmp_path, write_raster):
    values = np.full((3, 3, 3), 0.5, dtype=np.float32)
    values[0, 0, 1], values[1, 1, 0] = np.nan, np.inf
    image, valid = read_rgb(write_raster(tmp_path / "a.tif", values), value_range=(0, 1))
    assert valid.sum() == 7 and not valid[0, 0] and not valid[1, 1]
    assert (image[0, 0] == 0).all() and (image[2, 2] == 128).all()


def test_two_bands_are_no_rgb(tmp_path, write_raster):
    path = write_raster(tmp_path / "a.tif", np.zeros((4, 4, 2), dtype=np.uint8))
    with pytest.raises(DataError, match="two bands"):
        read_rgb(path)


def test_the_same_pixel_gives_the_same_number_whatever_is_around_it(tmp_path, write_raster):
    scene = np.random.default_rng(1).gamma(1.0, 0.1, (32, 32)).astype(np.float32)
    whole, _ = read_sar(write_raster(tmp_path / "whole.tif", scene), scale="power")
    tile, _ = read_sar(write_raster(tmp_path / "tile.tif", scene[8:16, 4:12]), scale="power")
    np.testing.assert_array_equal(tile, whole[8:16, 4:12])


# ---------------------------------------------------------------- SAR


@pytest.mark.parametrize(
    ("scale", "values"),
    [("db", [-25, -12.5, 0, 9]), ("power", [10**-2.5, 10**-1.25, 1, 8]), ("AMPLITUDE", [10**-1.25, 10**-0.625, 1, 3])],
)
def test_sar_scales_agree(tmp_path, write_raster, scale, values):
    path = write_raster(tmp_path / "sar.tif", np.array([values], dtype=np.float32))
    sar, valid = read_sar(path, scale=scale, value_range=(-25, 0))
    assert sar.dtype == np.float32 and sar.shape == (1, 4, 3) and valid.all()
    np.testing.assert_allclose(sar[0, :, 0], [0, 127.5, 255, 255], atol=1e-3)
    np.testing.assert_array_equal(sar[..., 0], sar[..., 2])


def test_8_bit_sar_is_read_as_it_is(tmp_path, write_raster):
    grey = random_rgb()[..., 0]
    sar, valid = read_sar(write_raster(tmp_path / "sar.png", grey))
    np.testing.assert_array_equal(sar, np.dstack([grey] * 3).astype(np.float32))
    assert valid.all()
    sar, _ = read_sar(write_raster(tmp_path / "three.png", random_rgb()))
    np.testing.assert_array_equal(sar, random_rgb().astype(np.float32))


def test_polarisations_become_channels(tmp_path, write_raster):
    bands = np.stack([np.full((2, 2), value, dtype=np.float64) for value in (-5, -10, -15, -20)], axis=2)
    expected = {-5: 204.0, -10: 153.0, -15: 102.0, -20: 51.0}
    two, _ = read_sar(write_raster(tmp_path / "two.tif", bands[..., :2]), scale="db")
    np.testing.assert_allclose(two[0, 0], [204, 153, 178.5], rtol=1e-6)
    path = write_raster(tmp_path / "four.tif", bands)
    four, _ = read_sar(path, scale="db")
    np.testing.assert_allclose(four[0, 0], [204, 153, 102], rtol=1e-6)
    chosen, _ = read_sar(path, scale="db", bands=[4])
    np.testing.assert_allclose(chosen[0, 0], [expected[-20]] * 3, rtol=1e-6)
    with pytest.raises(DataError, match=r"INPUT\.SAR\.BANDS"):
        read_sar(path, scale="db", bands=[5])


@pytest.mark.filterwarnings("error")
def test_what_is_no_power_is_not_valid(tmp_path, write_raster):
    power = np.array([[0.1, 0.0, -1.0, np.nan, np.inf, -9999.0, 0.2]], dtype=np.float32)
    sar, valid = read_sar(write_raster(tmp_path / "sar.tif", power, nodata=-9999.0), scale="power")
    np.testing.assert_array_equal(valid[0], [True, False, False, False, False, False, True])
    assert np.isfinite(sar).all() and (sar[~valid] == 0).all() and (sar[valid] > 0).all()


def test_nodata_is_not_valid_in_decibel(tmp_path, write_raster):
    decibel = np.array([[-10.0, -9999.0, np.nan]], dtype=np.float32)
    sar, valid = read_sar(write_raster(tmp_path / "sar.tif", decibel, nodata=-9999.0), scale="db")
    np.testing.assert_array_equal(valid[0], [True, False, False])
    assert (sar[0, 1:] == 0).all()


def test_sar_that_is_not_what_the_config_says(tmp_path, write_raster):
    path = write_raster(tmp_path / "sar.tif", np.ones((4, 4), dtype=np.float32))
    with pytest.raises(DataError, match=r"sar\.tif holds float32 values, not 8-bit ones; set INPUT\.SAR\.SCALE"):
        read_sar(path)
    with pytest.raises(ConfigError, match="INPUT.SAR.SCALE is 'decibel'; choose one of 8bit, power, amplitude, db"):
        read_sar(path, scale="decibel")
    with pytest.raises(ConfigError, match=r"INPUT\.SAR\.RANGE"):
        read_sar(path, scale="db", value_range=(0, -25))
    with pytest.raises(DataError, match="complex"):
        read_sar(write_raster(tmp_path / "slc.tif", np.ones((4, 4), dtype=np.complex64)), scale="amplitude")


# ---------------------------------------------------------------- labels


def test_label_values_and_the_ignored_one(tmp_path, write_raster):
    raw = np.array([[0, 1, 2], [4, 255, 0]], dtype=np.uint8)
    label = read_label(write_raster(tmp_path / "a.png", raw), num_classes=5)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, raw)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_label_values_are_mapped(tmp_path, write_raster, dtype):
    raw = np.array([[0, 10, 20], [255, 20, 10]], dtype=dtype)
    path = write_raster(tmp_path / "a.tif", raw)
    label = read_label(path, num_classes=2, label_values={0: 255, 10: 1, 20: 0})
    np.testing.assert_array_equal(label, [[255, 1, 0], [255, 0, 1]])


def test_a_palette_label_gives_its_indices(tmp_path, write_raster):
    raw = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    colors = {index: (80 * index, 10, 200, 255) for index in range(3)}
    path = write_raster(tmp_path / "a.png", raw, colormap=colors)
    np.testing.assert_array_equal(read_label(path, num_classes=3), raw)


def test_nodata_of_a_label_is_ignored_unless_it_is_a_class(tmp_path, write_raster):
    raw = np.array([[0, 1, 99]], dtype=np.uint8)
    path = write_raster(tmp_path / "a.tif", raw, nodata=99)
    np.testing.assert_array_equal(read_label(path, num_classes=2), [[0, 1, 255]])
    path = write_raster(tmp_path / "b.tif", raw[:, :2], nodata=0)
    np.testing.assert_array_equal(read_label(path, num_classes=2), [[0, 1]])
    floats = np.array([[0, 1, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(read_label(write_raster(tmp_path / "c.tif", floats), num_classes=2), [[0, 1, 255]])


def test_an_unknown_label_value_names_file_and_value(tmp_path, write_raster):
    path = write_raster(tmp_path / "tile_7.png", np.array([[0, 1, 9]], dtype=np.uint8))
    with pytest.raises(DataError, match=r"tile_7\.png has the label value 9, .*allowed: 0, 1, 255"):
        read_label(path, num_classes=2)
    path = write_raster(tmp_path / "tile_8.tif", np.array([[0, -1, 300]], dtype=np.int16))
    with pytest.raises(DataError, match=r"tile_8\.tif has the label value -1, 300"):
        read_label(path, num_classes=2)


def test_what_is_no_label_map(tmp_path, write_raster):
    with pytest.raises(DataError, match="3 bands"):
        read_label(write_raster(tmp_path / "a.png", random_rgb()), num_classes=2)
    with pytest.raises(DataError, match="no whole numbers"):
        read_label(write_raster(tmp_path / "b.tif", np.full((2, 2), 0.5, dtype=np.float32)), num_classes=2)


# ---------------------------------------------------------------- headers, grids, damaged files


def test_header(tmp_path, write_raster):
    path = write_raster(tmp_path / "a.tif", np.zeros((4, 7, 2), dtype=np.float32), nodata=-1, **UTM)
    info = read_raster_info(path)
    assert (info.width, info.height, info.count, info.nodata) == (7, 4, 2, -1)
    assert info.path == path and info.dtypes == ("float32", "float32")
    assert info.crs.to_epsg() == 32652 and info.transform == UTM["transform"]
    plain = read_raster_info(write_raster(tmp_path / "a.png", random_rgb()))
    assert plain.crs is None and plain.transform is None


@pytest.mark.filterwarnings("error")
def test_a_world_file_is_a_georeference_and_none_is_no_warning(tmp_path, write_raster):
    first, second = (write_raster(tmp_path / name, random_rgb()) for name in ("a.png", "b.png"))
    check_same_grid(read_raster_info(first), read_raster_info(second))
    first.with_suffix(".pgw").write_text("10\n0\n0\n-10\n5\n95\n")
    assert read_raster_info(first).transform.a == 10
    check_same_grid(read_raster_info(first), read_raster_info(second))
    second.with_suffix(".pgw").write_text("10\n0\n0\n-10\n25\n95\n")
    with pytest.raises(DataError, match="different places"):
        check_same_grid(read_raster_info(first), read_raster_info(second))


def test_a_pair_must_be_on_one_grid(tmp_path, write_raster):
    def info(name, size=(20, 30), **georeference):
        return read_raster_info(write_raster(tmp_path / name, np.zeros(size, dtype=np.uint8), **georeference))

    rgb = info("rgb.tif", **UTM)
    check_same_grid(rgb, info("same.tif", **UTM))
    check_same_grid(rgb, info("plain.tif"))
    nearly = from_origin(500000.4, 4000000.4, 1, 1)
    check_same_grid(rgb, info("nearly.tif", crs=UTM["crs"], transform=nearly))
    with pytest.raises(DataError, match=r"rgb\.tif is 30x20 pixels and .*small\.tif 30x19.*resample"):
        check_same_grid(rgb, info("small.tif", size=(19, 30), **UTM))
    with pytest.raises(DataError, match=r"EPSG:32652 and .*zone\.tif in EPSG:32651"):
        check_same_grid(rgb, info("zone.tif", crs="EPSG:32651", transform=UTM["transform"]))
    with pytest.raises(DataError, match=r"shifted\.tif cover different places .*5\.0 pixels"):
        check_same_grid(rgb, info("shifted.tif", crs=UTM["crs"], transform=from_origin(500005, 4000000, 1, 1)))
    with pytest.raises(DataError, match=r"coarse\.tif cover different places"):
        check_same_grid(rgb, info("coarse.tif", crs=UTM["crs"], transform=from_origin(500000, 4000000, 2, 2)))


@pytest.mark.parametrize("read", [read_rgb, read_sar, lambda path: read_label(path, num_classes=256)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_damaged_files_are_named(tmp_path, write_raster, read, suffix):
    grey = np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)
    whole = write_raster(tmp_path / f"whole{suffix}", grey).read_bytes()
    contents = {"empty": b"", "text": b"<html>not found</html>", "header": whole[:20], "truncated": whole[:-4000]}
    for kind, content in contents.items():
        path = tmp_path / f"{kind}{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{kind}\{suffix} cannot be read") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert type(pickle.loads(pickle.dumps(caught.value))) is DataError
    with pytest.raises(DataError, match=rf"missing\{suffix} does not exist"):
        read(tmp_path / f"missing{suffix}")
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path)


def test_a_tile_without_data(tmp_path, write_raster):
    path = write_raster(tmp_path / "empty.tif", np.zeros((4, 4, 3), dtype=np.uint8), nodata=0)
    _, valid = read_rgb(path)
    with pytest.raises(DataError, match=r"empty\.tif holds no data"):
        check_has_data(valid, path)
    check_has_data(np.array([[False, True]]), path)


def test_a_fourth_band_that_is_no_alpha_is_left_out(tmp_path, write_raster):
    bands = np.dstack([random_rgb(), np.zeros((6, 9), dtype=np.uint8)])
    meanings = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    image, valid = read_rgb(write_raster(tmp_path / "a.tif", bands, colorinterp=meanings, photometric="MINISBLACK"))
    np.testing.assert_array_equal(image, random_rgb())
    assert valid.all()


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


@needs_real_data
def test_real_multispectral_image_and_world_files():
    image, valid = read_rgb(
        REAL_DATA / "sen12mscr" / "s2_ROIs1970_fall_139_p839.tif", bands=[4, 3, 2], value_range=(0, 3000)
    )
    assert valid.all() and 10 < image.mean() < 245
    for scene in ("048", "263"):
        pair = [read_raster_info(REAL_DATA / "volkov_s1s2" / f"{kind}_{scene}.png") for kind in ("rgb", "sar")]
        assert pair[0].transform is not None
        check_same_grid(*pair)


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("mask", ["none", "nodata", "alpha"])
def test_a_window_is_that_part_of_the_whole(tmp_path, write_raster, mask):
    rgb = random_rgb()
    rgb[2, 3:6] = 0
    options = {"nodata": 0} if mask == "nodata" else {}
    if mask == "alpha":
        rgb = np.concatenate([rgb, np.where(rgb[..., :1] > 0, 255, 0).astype(np.uint8)], axis=2)
        options = {"colorinterp": (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)}
    path = write_raster(tmp_path / "a.tif", rgb, **options)
    for read in (read_rgb, read_sar):
        whole, part = read(path), read(path, window=Window(4, 1, 3, 2))
        assert whole[1].all() == (mask == "none")
        for all_of_it, cut in zip(whole, part, strict=True):
            np.testing.assert_array_equal(cut, all_of_it[1:3, 4:7])


def test_a_nodata_value_that_the_file_does_not_declare(tmp_path, write_raster):
    rgb = random_rgb()
    rgb[0, 0], rgb[0, 1] = (0, 0, 0), (0, 9, 9)
    path = write_raster(tmp_path / "a.tif", rgb)
    # No data in RGB is black in all channels; a polarisation without data leaves no pixel for the others.
    assert (~read_rgb(path, nodata=0)[1]).nonzero()[1].tolist() == [0]
    assert (~read_sar(path, nodata=0)[1]).nonzero()[1].tolist() == [0, 1]
    assert read_rgb(path)[1].all() and read_sar(path)[1].all()


def test_the_bands_that_a_file_calls_red_green_and_blue(tmp_path):
    path = tmp_path / "bgr.tif"
    values = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
    with rasterio.open(path, "w", driver="GTiff", width=3, height=2, count=4, dtype="uint8") as file:
        file.write(values)
        file.colorinterp = [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    image, _ = read_rgb(path)
    np.testing.assert_array_equal(image, values[[3, 2, 1]].transpose(1, 2, 0))
    image, _ = read_rgb(path, bands=(1, 2, 3))
    np.testing.assert_array_equal(image, values[:3].transpose(1, 2, 0))


def test_scale_and_offset_of_a_file_are_applied_to_each_band(tmp_path):
    path = tmp_path / "scaled.tif"
    stored = np.array([[[0, 100]], [[200, 300]], [[400, 500]]], dtype=np.uint16)
    with rasterio.open(path, "w", driver="GTiff", width=2, height=1, count=3, dtype="uint16") as file:
        file.write(stored)
        file.scales, file.offsets = (0.001, 0.001, 0.002), (0.0, 0.1, 0.0)
    image, _ = read_rgb(path, value_range=(0.0, 1.0))
    expected = np.rint(255 * np.array([[[0.0, 0.3, 0.8], [0.1, 0.4, 1.0]]]))
    np.testing.assert_array_equal(image, expected)
    sar, _ = read_sar(path, scale="db", value_range=(0.0, 1.0))
    np.testing.assert_allclose(sar, 255 * np.array([[[0.0, 0.3, 0.8], [0.1, 0.4, 1.0]]]), rtol=1e-5)
