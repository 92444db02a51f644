import numpy as np
import pytest

from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import SAR_UNITS, sar_unit
from mm_ovseg.raster.units import decibel_ranges, declared_unit, unit_of_name


@pytest.mark.parametrize("name", SAR_UNITS)
def test_there_and_back_through_power(name):
    unit, values = sar_unit(name), np.linspace(0.5, 9, 7)
    np.testing.assert_allclose(unit.from_power(unit.to_power(values)), values, rtol=1e-12)


def test_the_same_measurement_in_every_unit():
    power = np.array([1e-3, 0.1, 1.0])
    for name, values in (("power", power), ("amplitude", np.sqrt(power)), ("db", [-30.0, -10.0, 0.0])):
        unit = sar_unit(name)
        np.testing.assert_allclose(unit.to_power(np.asarray(values)), power, rtol=1e-9)
        np.testing.assert_allclose(unit.to_decibels(np.asarray(values)), [-30, -10, 0], atol=1e-9)
    assert sar_unit("8bit").to_decibels is None


def test_what_is_a_measurement():
    values = np.array([-1.0, 0.0, 1.0, np.nan, np.inf])
    for name, expected in (("db", [1, 1, 1, 0, 0]), ("8bit", [1, 1, 1, 0, 0]), ("power", [0, 0, 1, 0, 0])):
        assert sar_unit(name).measured(values).tolist() == [bool(value) for value in expected]


def test_units_are_found_by_name():
    assert sar_unit("DB") is SAR_UNITS["db"]
    for name in ("decibel", "", None, 3):
        with pytest.raises(ConfigError, match=r"INPUT\.SAR\.SCALE is '.*'; choose one of 8bit, power, amplitude, db"):
            sar_unit(name)


def test_one_range_is_for_all_bands():
    np.testing.assert_array_equal(decibel_ranges((-25, 0), 2), [[-25, 0], [-25, 0]])
    np.testing.assert_array_equal(decibel_ranges(((-25, 0), (-30, -5)), 2), [[-25, 0], [-30, -5]])
    with pytest.raises(ConfigError, match=r"INPUT\.SAR\.RANGE is for 2 bands, .* is 3"):
        decibel_ranges(((-25, 0), (-30, -5)), 3)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        *(
            (text, "db")
            for text in ("dB", "decibels", "sigma0 [dB]", "gamma nought (dB)", "Gamma0_VV_db", "intensity_db")
        ),
        *((text, "power") for text in ("power", "sigma0_linear", "gamma0 [linear power]", "Beta0 power")),
        *((text, "") for text in (None, "", "1", "m", "sigma0", "Sigma0_VV", "dB/m", "sigma0 dB m", "linear")),
    ],
)
def test_units_are_declared_in_words(text, unit):
    assert declared_unit(text) == unit


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *((name, "db") for name in ("Sigma0_VV_db", "gamma0_vh_dB", "sigma0 [dB]")),
        *((name, "power") for name in ("Sigma0_VV", "Gamma0_HH", "sigma0_linear")),
        *(
            (name, "")
            for name in (None, "VV", "dB", "power", "sigma0_vv", "Intensity_VV", "Amplitude_VV", "Sigma0_VV_x")
        ),
    ],
)
def test_units_in_names_of_bands(name, unit):
    assert unit_of_name(name) == unit
