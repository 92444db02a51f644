"""SAR values in decibels: the range that files fill, to map to what encoders take."""

import math

import numpy as np

from mm_ovseg.raster import sar_unit

__all__ = ["common_range", "to_decibels"]


def to_decibels(values: np.ndarray, scale: str) -> np.ndarray:
    """SAR values (any shape) of a unit but "8bit", in dB, one axis; what is not a measurement is left out."""
    unit = sar_unit(scale)
    values = values.astype(np.float64)
    return unit.to_decibels(values[unit.measured(values)])


def common_range(decibels: np.ndarray) -> list[float] | None:
    """Whole dB between which 98 of 100 values (N,) lie; None where there are no values."""
    if not len(decibels):
        return None
    low, high = np.percentile(decibels, (1, 99))
    low, high = math.floor(low), math.ceil(high)
    return [float(low), float(max(high, low + 1))]
