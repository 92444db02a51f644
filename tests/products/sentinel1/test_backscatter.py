"""The calibration of Sentinel-1 windows, compared with the tables' own formulas."""

import re

import numpy as np
import pytest

from mm_ovseg.products.sentinel1.backscatter import MIN_POWER, Calibration
from mm_ovseg.products.sentinel1.safe_folder import read_annotation, read_safe
from tests.products.sentinel1_geometry import Geometry
from tests.products.sentinel1_product import gamma_table, noise_factor, noise_table, write_grd

LINES, SAMPLES = 90, 200


@pytest.fixture
def channel(tmp_path):
    folder = write_grd(tmp_path, {"VV": np.ones((LINES, SAMPLES), np.uint16)}, Geometry(LINES, SAMPLES))
    return read_safe(folder / "manifest.safe").channels[0]


def power(channel, numbers, row=0, column=0):
    return Calibration(channel, read_annotation(channel.annotation)).power(numbers, row, column)


def expected_power(numbers, row, column, *, with_factor=True):
    """Gamma nought at places where the tables have values, from their formulas."""
    factor = noise_factor(row) if with_factor and column < SAMPLES // 2 else 1.0
    noise = noise_table(row, np.array(column)) * factor
    return (float(numbers[row, column]) ** 2 - noise) / gamma_table("VV", row, np.array(column)) ** 2


@pytest.mark.parametrize("old", [False, True])
def test_decibels_are_right_to_a_ten_thousandth(channel, old):
    """Before version 2.90 of the processor, noise had other names and did not depend on the azimuth."""
    if old:
        text = channel.noise.read_text()
        text = re.sub("<noiseAzimuthVectorList.*</noiseAzimuthVectorList>", "", text)
        channel.noise.write_text(text.replace("noiseRangeVector", "noiseVector").replace("noiseRangeLut", "noiseLut"))
    numbers = np.random.default_rng(0).integers(200, 65535, (LINES, SAMPLES), dtype=np.uint16)
    found = power(channel, numbers)
    for row in (0, 20, 60, 80):
        for column in (0, 40, 80, 120, 160):
            expected = expected_power(numbers, row, column, with_factor=not old)
            assert abs(10 * np.log10(found[row, column] / expected)) < 1e-4, (row, column)


def test_a_window_is_part_of_the_whole(channel):
    numbers = np.random.default_rng(1).integers(100, 5000, (LINES, SAMPLES), dtype=np.uint16)
    whole = power(channel, numbers)
    np.testing.assert_array_equal(power(channel, numbers[37:71, 83:190], 37, 83), whole[37:71, 83:190])


def test_between_the_tables_values_are_interpolated(channel):
    numbers = np.full((LINES, SAMPLES), 60000, np.uint16)  # beside which noise is nothing
    found = 60000 / np.sqrt(power(channel, numbers)[0])
    np.testing.assert_allclose(found[40:81], np.linspace(found[40], found[80], 41), rtol=1e-4)


def test_less_than_the_noise_is_a_small_power(channel):
    found = power(channel, np.ones((LINES, SAMPLES), np.uint16))
    assert (found == np.float32(MIN_POWER)).all()
