"""The settings under INPUT that files are to be read with, from what they hold."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mm_ovseg.data.inspection.decibels import common_range, to_decibels
from mm_ovseg.data.inspection.facts import FileFacts, pooled_sample

__all__ = ["guess_rgb_settings", "guess_sar_settings"]

# What band descriptions call red, green and blue.
BAND_NAMES = (("red", "b4", "b04"), ("green", "b3", "b03"), ("blue", "b2", "b02"))
SENTINEL_2_BANDS, SENTINEL_2_RGB = (12, 13), (4, 3, 2)  # number of bands with and without B10; B4, B3, B2
MOST_AMPLITUDE = 1.0  # power (sigma nought) lies below that almost everywhere, amplitudes as digital numbers far above


def guess_rgb_settings(files: Sequence[FileFacts]) -> dict[str, Any]:
    """``BANDS`` and ``RANGE`` of INPUT.RGB, where they are not the defaults.

    The range is the 2nd and the 98th percentile over all files, rounded; from 0 where that is close.
    """
    files = _alike(files)
    if not files:
        return {}
    settings: dict[str, Any] = {}
    first = files[0]
    bands = list(first.bands)
    if chosen := _named_bands(first) or ([*SENTINEL_2_RGB] if len(bands) in SENTINEL_2_BANDS else None):
        settings["BANDS"] = bands = chosen
    if first.info.dtypes[0] != "uint8":
        sample = pooled_sample(files, len(first.bands))
        columns = [first.bands.index(band) for band in (first.colors or bands)[:3]]
        values = sample[:, columns][np.isfinite(sample[:, columns])]
        if len(values):
            low, high = np.percentile(values, (2, 98))
            if 0 <= low < 0.2 * high:
                low = 0.0
            low, high = (float(f"{value:.2g}") for value in (low, high))
            settings["RANGE"] = [low, high if high > low else low + 1.0]
    return settings


def guess_sar_settings(files: Sequence[FileFacts]) -> dict[str, Any]:
    """``SCALE`` and ``RANGE`` of INPUT.SAR, where they are not the defaults.

    The range holds 98 of 100 values of all files, in whole dB.
    """
    files = _alike(files)
    if not files or files[0].info.dtypes[0] == "uint8":
        return {}
    values = pooled_sample(files, len(files[0].bands))[:, :3]
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    if np.percentile(values, 25) < 0:
        scale = "db"
    else:
        positive = values[values > 0]
        is_power = len(positive) and np.median(positive) < MOST_AMPLITUDE
        scale = "power" if is_power else "amplitude"
    settings = {"SCALE": scale}
    if (value_range := common_range(to_decibels(values, scale))) is not None:
        settings["RANGE"] = value_range
    return settings


def _alike(files: Sequence[FileFacts]) -> list[FileFacts]:
    """Those readable files whose type and number of bands most have."""
    files = [entry for entry in files if entry.error is None]
    if not files:
        return []
    (common, _), *_ = Counter((entry.info.dtypes[0], len(entry.bands)) for entry in files).most_common(1)
    return [entry for entry in files if (entry.info.dtypes[0], len(entry.bands)) == common]


def _named_bands(facts: FileFacts) -> list[int] | None:
    """The bands that a file's descriptions call red, green and blue; None if it has no need of them, or no such."""
    if facts.colors or len(facts.bands) <= 3:
        return None
    chosen = []
    for names in BAND_NAMES:
        found = [band for band, name in zip(facts.bands, facts.band_names, strict=True) if name.split(" ")[0] in names]
        chosen += found[:1]
    return chosen if len(chosen) == 3 else None
