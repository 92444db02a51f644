"""SAR values in decibels: the range that files fill, to map to what encoders take."""

import math

import numpy as np

__all__ = ["common_range", "to_decibels"]


def to_decibels(values: np.ndarray, scale: str) -> np.ndarray:
    """SAR values (any shape) of a scale, as of :func:`mm_ovseg.data.raster.read_sar` but "8bit", in dB, one axis.

    Power and amplitude that are not positive have none and are left out.
    """
    values = values[np.isfinite(values)].astype(np.float64)
    if scale == "db":
        return values
    return (10.0 if scale == "power" else 20.0) * np.log10(values[values > 0])


def common_range(decibels: np.ndarray) -> list[float] | None:
    """Whole dB between which 98 of 100 values (N,) lie; None where there are no values."""
    if not len(decibels):
        return None
    low, high = np.percentile(decibels, (1, 99))
    low, high = math.floor(low), math.ceil(high)
    return [float(low), float(max(high, low + 1))]
