import numpy as np
import pytest

from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import SAR_UNITS, sar_unit
from mm_ovseg.raster.units import decibel_ranges


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
    with pytest.raises(ConfigError, match=r"INPUT\.SAR\.RANGE has 2 ranges, but 3 bands"):
        decibel_ranges(((-25, 0), (-30, -5)), 3)
