import numpy as np
import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.raster import decode_rgb_array, decode_sar_array, read_rgb, read_sar


def noise(shape, dtype, low=0, high=256, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


@pytest.mark.parametrize("shape,dtype,settings", [
    ((7, 9, 3), np.uint8, {}),
    ((7, 9, 5), np.uint8, {"bands": [5, 1, 2]}),
    ((7, 9, 3), np.uint8, {"value_range": (50, 200)}),
    ((7, 9, 12), np.uint16, {"bands": [4, 3, 2], "value_range": (0, 200)}),
    ((7, 9, 3), np.float64, {"value_range": (0, 200)}),
])  # fmt: skip
def test_an_rgb_array_is_taken_as_a_file_is(tmp_path, write_raster, shape, dtype, settings):
    array = noise(shape, dtype)
    if dtype is np.float64:
        array[2, 3, 1], array[4, 4, 0] = np.nan, np.inf
    before = array.copy()
    from_file = read_rgb(write_raster(tmp_path / "rgb.tif", array), **settings)
    from_array = decode_rgb_array(array, "The RGB array", **settings)
    for expected, given in zip(from_file, from_array, strict=True):
        assert given.dtype == expected.dtype
        np.testing.assert_array_equal(given, expected)
    assert from_array[1].all() == (dtype is not np.float64)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("shape,dtype,settings", [
    ((7, 9), np.uint8, {}),
    ((7, 9, 1), np.uint8, {}),
    ((7, 9, 3), np.uint8, {}),
    ((7, 9), np.float32, {"scale": "db"}),
    ((7, 9, 2), np.float64, {"scale": "DB", "value_range": (-30, 5)}),
    ((7, 9, 5), np.float32, {"scale": "db"}),
    ((7, 9, 4), np.int16, {"scale": "power", "bands": [4, 2]}),
    ((7, 9, 2), np.uint16, {"scale": "amplitude"}),
])  # fmt: skip
def test_a_sar_array_is_taken_as_a_file_is(tmp_path, write_raster, shape, dtype, settings):
    array = noise(shape, dtype, *((0, 256) if np.dtype(dtype).kind in "ui" else (-30, 5)))
    if np.dtype(dtype).kind == "f":
        array[2, 3], array[4, 4] = np.nan, -np.inf
    before = array.copy()
    from_file = read_sar(write_raster(tmp_path / "sar.tif", array), **settings)
    from_array = decode_sar_array(array, "The SAR array", **settings)
    for expected, given in zip(from_file, from_array, strict=True):
        assert given.dtype == expected.dtype
        np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(array, before)


def test_what_is_masked_has_no_data():
    mask = np.zeros((4, 5, 3), bool)
    mask[1, 2], mask[3, 0, 1] = True, True
    array = np.ma.masked_array(noise((4, 5, 3), np.uint8, 1), mask)
    image, valid = decode_rgb_array(array, "The RGB array")
    np.testing.assert_array_equal(valid, ~mask.all(axis=2))  # one channel is enough, as in files
    assert (image[1, 2] == 0).all() and not isinstance(image, np.ma.MaskedArray)
    sar, valid = decode_sar_array(array, "The SAR array")
    np.testing.assert_array_equal(valid, ~mask.any(axis=2))
    assert (sar[~valid] == 0).all() and (sar[valid] > 0).all()


def test_numbers_beyond_float32_have_no_data():
    array = np.full((2, 2), -10.0)
    array[0, 0] = 1e300
    assert decode_sar_array(array, "The SAR array", scale="db")[1].tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("array,settings,message", [
    (np.zeros((4, 4, 3), np.float32), {}, r"holds float32 values; set INPUT\.RGB\.RANGE"),
    (np.zeros((4, 4, 3), bool), {"value_range": (0, 1)}, "holds bool values; give numbers"),
    (np.full((4, 4, 3), None), {"value_range": (0, 1)}, "holds object values; give numbers"),
    (np.zeros((4, 4, 4), np.uint8), {}, r"shape \(4, 4, 4\); give \(height, width, 3\)"),
    (np.zeros((3, 4, 4), np.uint8), {}, r"shape \(3, 4, 4\); give \(height, width, 3\)"),
    (np.zeros((4, 4), np.uint8), {}, r"shape \(4, 4\); give \(height, width, 3\)"),
    (np.zeros((4, 4), np.uint8), {"bands": [1, 1, 1]}, r"shape \(4, 4\)"),
    (np.zeros((0, 4, 3), np.uint8), {}, "no pixels"),
    (np.zeros((4, 4, 3), np.uint8), {"bands": [4, 3, 2]}, r"no band 4, but bands 1 to 3; correct INPUT\.RGB\.BANDS"),
])  # fmt: skip
def test_what_is_no_rgb_array(array, settings, message):
    with pytest.raises(DataError, match=f"The RGB array .*{message}"):
        decode_rgb_array(array, "The RGB array", **settings)


@pytest.mark.parametrize("array,settings,message", [
    (np.zeros((4, 4), np.float32), {}, r"holds float32 values, not 8-bit ones; set INPUT\.SAR\.SCALE"),
    (np.zeros((4, 4), np.complex64), {"scale": "amplitude"}, "complex"),
    (np.zeros((4, 4), bool), {"scale": "db"}, "holds bool values; give numbers"),
    (np.zeros(4, np.uint8), {}, r"shape \(4,\); give \(height, width\) or"),
    (np.zeros((1, 4, 4, 1), np.uint8), {}, r"shape \(1, 4, 4, 1\)"),
    (np.zeros((4, 4, 0), np.uint8), {}, "no pixels"),
    (np.zeros((4, 4, 2), np.uint8), {"bands": [3]}, r"no band 3, but bands 1 to 2; correct INPUT\.SAR\.BANDS"),
])  # fmt: skip
def test_what_is_no_sar_array(array, settings, message):
    with pytest.raises(DataError, match=f"The SAR array .*{message}"):
        decode_sar_array(array, "The SAR array", **settings)
