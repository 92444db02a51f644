import numpy as np
import pytest
import rasterio

from mm_ovseg.data.check.contents import read_contents
from mm_ovseg.data.check.input_settings import guess_rgb_settings, guess_sar_settings
from tests.data.check.folders import images, save

DECIBELS = np.random.default_rng(0).normal(-12, 3, (2, 64, 64)).astype(np.float32)


def facts(tmp_path, *arrays):
    return [read_contents(save(tmp_path / f"{number}.tif", array)) for number, array in enumerate(arrays)]


def test_eight_bit_files_are_read_as_they_are(tmp_path):
    rgb, sar, _ = images(0)
    assert guess_rgb_settings(facts(tmp_path, rgb)) == {}
    assert guess_sar_settings(facts(tmp_path, np.clip(sar + 200, 0, 255).astype(np.uint8))) == {}
    assert guess_rgb_settings([]) == guess_sar_settings([]) == {}


@pytest.mark.parametrize("scale, values, low, high", [
    ("db", DECIBELS, -19, -5),
    ("power", 10 ** (DECIBELS / 10), -19, -5),
    ("amplitude", (10 ** ((DECIBELS + 60) / 20)).astype(np.uint16), 41, 55),
])  # fmt: skip
def test_the_scale_and_range_of_sar(tmp_path, scale, values, low, high):
    settings = guess_sar_settings(facts(tmp_path, values))
    assert settings["SCALE"] == scale
    assert abs(settings["RANGE"][0] - low) <= 1 and abs(settings["RANGE"][1] - high) <= 1


def test_nan_and_files_unlike_the_rest_do_not_count(tmp_path):
    holed = np.where(np.arange(64) < 20, np.nan, DECIBELS).astype(np.float32)
    odd = np.full((1, 64, 64), 3000, dtype=np.uint16)
    assert guess_sar_settings(facts(tmp_path, holed, DECIBELS, odd))["SCALE"] == "db"


def test_the_bands_and_range_of_rgb(tmp_path):
    reflectance = np.random.default_rng(1).uniform(0, 3000, (12, 64, 64)).astype(np.uint16)
    settings = guess_rgb_settings(facts(tmp_path, reflectance))
    assert settings["BANDS"] == [4, 3, 2] and settings["RANGE"][0] == 0.0
    assert 2800 <= settings["RANGE"][1] <= 3000
    assert guess_rgb_settings(facts(tmp_path, reflectance[:3]))["RANGE"][0] == 0.0
    assert "BANDS" not in guess_rgb_settings(facts(tmp_path, reflectance[:3]))


def test_bands_that_are_named(tmp_path):
    path = save(tmp_path / "named.tif", np.ones((4, 8, 8), np.uint16))
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("B2 (490 nm)", "B3", "B4", "B8")
    assert guess_rgb_settings([read_contents(path)])["BANDS"] == [3, 2, 1]
