"""Guessing the INPUT settings of files from their contents."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mm_ovseg.data.check.contents import FileContents, pooled_sample
from mm_ovseg.raster import sar_unit

__all__ = ["common_range", "guess_rgb_settings", "guess_sar_settings", "to_decibels"]

# Descriptions of red, green and blue bands.
BAND_NAMES = (("red", "b4", "b04"), ("green", "b3", "b03"), ("blue", "b2", "b02"))
SENTINEL_2_BANDS, SENTINEL_2_RGB = (12, 13), (4, 3, 2)  # number of bands without and with B10; B4, B3, B2
MAX_POWER = 1.0  # of most pixels (sigma nought); amplitudes stored as digital numbers are far larger


def guess_rgb_settings(files: Sequence[FileContents]) -> dict[str, Any]:
    """``BANDS`` and ``RANGE`` of INPUT.RGB, if they differ from the defaults.

    The range is from the 2nd to the 98th percentile over all files, rounded; from 0 if that is close.
    """
    files = _of_most_common_type(files)
    if not files:
        return {}
    settings: dict[str, Any] = {}
    first = files[0]
    numbers = [band.index for band in first.bands]
    columns = first.colors or [0, 1, 2]
    if not first.colors and len(numbers) > 3:
        names = [band.description.lower().split(" ")[0] for band in first.bands]
        found = [next((place for place, name in enumerate(names) if name in wanted), None) for wanted in BAND_NAMES]
        if None not in found:
            settings["BANDS"], columns = [numbers[place] for place in found], found
        elif len(numbers) in SENTINEL_2_BANDS:
            settings["BANDS"], columns = list(SENTINEL_2_RGB), [numbers.index(band) for band in SENTINEL_2_RGB]
    if first.dtype != "uint8":
        values = pooled_sample(files, len(numbers))[:, columns[: len(numbers)]]
        values = values[np.isfinite(values)]
        if len(values):
            low, high = np.percentile(values, (2, 98))
            low, high = (float(f"{value:.2g}") for value in (0.0 if 0 <= low < 0.2 * high else low, high))
            settings["RANGE"] = [low, high if high > low else low + 1.0]
    return settings


def guess_sar_settings(files: Sequence[FileContents]) -> dict[str, Any]:
    """``SCALE`` and ``RANGE`` of INPUT.SAR, if they differ from the defaults.

    The range contains 98% of the values of all files, in whole dB.
    """
    files = _of_most_common_type(files)
    if not files or files[0].dtype == "uint8":
        return {}
    values = pooled_sample(files, len(files[0].bands))[:, :3]
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    positive = values[values > 0]
    scale = "power" if len(positive) and np.median(positive) < MAX_POWER else "amplitude"
    if np.percentile(values, 25) < 0:
        scale = "db"
    value_range = common_range(to_decibels(values, scale))
    return {"SCALE": scale} if value_range is None else {"SCALE": scale, "RANGE": value_range}


def to_decibels(values: np.ndarray, scale: str) -> np.ndarray:
    """SAR values (any shape) of a unit other than "8bit" in dB, flattened, without values that are not measurements."""
    unit = sar_unit(scale)
    values = values.astype(np.float64)
    return unit.to_decibels(values[unit.measured(values)])


def common_range(decibels: np.ndarray) -> list[float] | None:
    """The range in whole dB that contains 98% of the values (N,); None without values."""
    if not len(decibels):
        return None
    low, high = np.percentile(decibels, (1, 99))
    low, high = math.floor(low), math.ceil(high)
    return [float(low), float(max(high, low + 1))]


def _of_most_common_type(files: Sequence[FileContents]) -> list[FileContents]:
    files = [file for file in files if file.error is None]
    types = [(file.dtype, len(file.bands)) for file in files]
    common = Counter(types).most_common(1)
    return [file for file, of_file in zip(files, types, strict=True) if of_file == common[0][0]]
