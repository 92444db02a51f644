"""Units of SAR: what the values in a file mean. A new unit is an entry of :data:`SAR_UNITS`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mm_ovseg.choices import check_choice
from mm_ovseg.errors import ConfigError

__all__ = [
    "DECLARED_UNITS",
    "REFLECTANCE",
    "SAR_UNITS",
    "SARUnit",
    "decibel_ranges",
    "declared_unit",
    "sar_unit",
    "unit_of_name",
]

REFLECTANCE = "reflectance"  # 0..1, of the ground or at the top of the atmosphere


@dataclass(frozen=True)
class SARUnit:
    """A unit of SAR values.

    Attributes:
        to_power: Values -> linear power, in which SAR is averaged and speckle is multiplicative; float arrays.
        from_power: The inverse.
        to_decibels: Values -> dB, which a range maps to 0..255; None for values that already are 0..255.
        has_zero: Whether zero and negative values are measurements; otherwise they mean no data.
    """

    to_power: Callable[[np.ndarray], np.ndarray]
    from_power: Callable[[np.ndarray], np.ndarray]
    to_decibels: Callable[[np.ndarray], np.ndarray] | None
    has_zero: bool

    def measured(self, values: np.ndarray) -> np.ndarray:
        """Where values (of any shape) are measurements."""
        finite = np.isfinite(values)
        return finite if self.has_zero else finite & (values > 0)


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(power)


SAR_UNITS = {
    # 8-bit images are usually stretched amplitudes.
    "8bit": SARUnit(np.square, np.sqrt, None, has_zero=True),
    "power": SARUnit(lambda values: values, lambda power: power, _decibels, has_zero=False),
    "amplitude": SARUnit(np.square, np.sqrt, lambda values: 20.0 * np.log10(values), has_zero=False),
    "db": SARUnit(lambda values: np.power(10.0, values / 10.0), _decibels, lambda values: values, has_zero=True),
}


# A band's unit in a file, in lower case -> its unit here; what other files say is not interpreted.
DECLARED_UNITS = {
    **dict.fromkeys(("db", "decibel", "decibels", "intensity_db"), "db"),
    **dict.fromkeys(("power", "linear power", "intensity"), "power"),
    "amplitude": "amplitude",
    REFLECTANCE: REFLECTANCE,
}


# Such as "sigma0 [dB]", "Gamma0_VV_db", "sigma nought (linear)".
CALIBRATED = re.compile(
    r"(sigma|gamma|beta)[ _]?(0|nought|naught|zero)([ _](hh|hv|vh|vv))?[ _]?[\[(]?"
    r"((?P<db>db)|linear|(linear )?power)[\])]?"
)
SNAP_POWER = re.compile("(Sigma0|Gamma0|Beta0)_(HH|HV|VH|VV)")  # dB are ..._db


def declared_unit(text: str | None) -> str:
    """The unit that a file gives a band: "reflectance", a key of :data:`SAR_UNITS`, or "" if it gives no known one."""
    text = (text or "").strip().lower()
    if match := CALIBRATED.fullmatch(text):
        return "db" if match["db"] else "power"
    return DECLARED_UNITS.get(text, "")


def unit_of_name(name: str | None) -> str:
    """The unit of calibrated SAR, "db" or "power", in a band's name, such as "Sigma0_VV_db"; "" if it says none."""
    name = (name or "").strip()
    if SNAP_POWER.fullmatch(name):
        return "power"
    return declared_unit(name) if CALIBRATED.fullmatch(name.lower()) else ""


def sar_unit(name: str) -> SARUnit:
    """The unit that ``INPUT.SAR.SCALE`` names.

    Raises:
        ConfigError: The name is unknown.
    """
    name = str(name).lower()
    check_choice("INPUT.SAR.SCALE", name, SAR_UNITS)
    return SAR_UNITS[name]


def decibel_ranges(value_range: Sequence, bands: int) -> np.ndarray:
    """``INPUT.SAR.RANGE`` as float64 (bands, 2), from one [low, high] for all bands or one for each.

    Raises:
        ConfigError: There is neither one range nor one for each band.
    """
    ranges = np.asarray(value_range, dtype=np.float64).reshape(-1, 2)
    if len(ranges) not in (1, bands):
        raise ConfigError(
            f"INPUT.SAR.RANGE is for {len(ranges)} bands, but the number of SAR bands read is {bands}; give one "
            "range for all, or one for each band."
        )
    return np.broadcast_to(ranges, (bands, 2))
