"""The coverage of a map: which images each of its pixels rests on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.inference.areas import MeasuredValues, measure_values

__all__ = [
    "COVERAGE",
    "COVERAGE_LEGEND",
    "ON_SAR_ALONE",
    "class_coverage",
    "coverage_concerns",
    "coverage_of",
    "coverage_report",
    "measure_coverage",
    "sar_share",
]

# Values of the coverage file; outside the area of interest it is 255.
COVERAGE = {
    "nothing": 0,
    "rgb_only": 1,
    "rgb_and_sar": 2,
    "sar_only": 3,
    "cloudy_rgb_and_sar": 4,
    "cloudy_rgb_only": 5,
}
# In the order of the values; colours of Okabe and Ito, which colour-blind readers can distinguish: blue is SAR alone.
COVERAGE_LEGEND = (
    LegendEntry("nothing", (110, 110, 110), False, 0),
    LegendEntry("RGB alone", (230, 159, 0), False, 1),
    LegendEntry("RGB and SAR", (0, 158, 115), False, 2),
    LegendEntry("SAR alone", (0, 114, 178), False, 3),
    LegendEntry("SAR, and RGB under cloud", (86, 180, 233), False, 4),
    LegendEntry("RGB under cloud alone: the ground is not seen", (213, 94, 0), False, 5),
)
ON_SAR_ALONE = ("sar_only", "cloudy_rgb_and_sar")  # only SAR sees the ground
WITH_SAR = ("rgb_and_sar", *ON_SAR_ALONE)
NOTED_SHARE = 0.01  # of the mapped pixels, from which on there is a warning


def coverage_of(image_valid: np.ndarray, sar_valid: np.ndarray, cloudy: np.ndarray | None) -> np.ndarray:
    """The values of :data:`COVERAGE` of some pixels.

    Args:
        image_valid, sar_valid: bool (H, W), where RGB and SAR have data.
        cloudy: bool (H, W), where a cloud or its shadow hides the ground from RGB; None if that is not known.

    Returns:
        uint8 (H, W).
    """
    clear = np.where(sar_valid, COVERAGE["rgb_and_sar"], COVERAGE["rgb_only"])
    if cloudy is not None:
        hidden = np.where(sar_valid, COVERAGE["cloudy_rgb_and_sar"], COVERAGE["cloudy_rgb_only"])
        clear = np.where(cloudy, hidden, clear)
    without_rgb = np.where(sar_valid, COVERAGE["sar_only"], COVERAGE["nothing"])
    return np.where(image_valid, clear, without_rgb).astype(np.uint8)


def measure_coverage(map_path: Path, coverage_path: Path) -> MeasuredValues:
    """Measure the values of a class map by :data:`COVERAGE`; a last group are the pixels outside the area of interest.

    Raises:
        DataError: a file is missing or damaged.
    """
    return measure_values(map_path, coverage_path, len(COVERAGE) + 1)


def coverage_report(measured: MeasuredValues) -> dict[str, dict[str, Any]]:
    """What a map rests on, from :func:`measure_coverage`.

    Returns:
        Name of :data:`COVERAGE` -> ``pixels``; ``hectares``, None for a map that is not georeferenced; and ``share`` of
        the mapped pixels, 0..1, None for ``nothing`` and if no pixel is mapped.
    """
    everything = _by_coverage(measured, slice(None))
    mapped = sum(entry["pixels"] for name, entry in everything.items() if name != "nothing")
    for name, entry in everything.items():
        entry["share"] = entry["pixels"] / mapped if mapped and name != "nothing" else None
    return everything


def class_coverage(measured: MeasuredValues, value: int) -> dict[str, dict[str, Any]]:
    """What the pixels of one value of the class map rest on: ``pixels`` and ``hectares`` as in the report."""
    return {name: entry for name, entry in _by_coverage(measured, value).items() if name != "nothing"}


def sar_share(report: Mapping[str, Any]) -> float | None:
    """The share of the mapped pixels with SAR data, 0..1, from the report of a scene; None if no pixel is mapped."""
    shares = [report["coverage"][name]["share"] for name in WITH_SAR]
    return None if None in shares else sum(shares)


def coverage_concerns(coverage: Mapping[str, Mapping[str, Any]], *, trained_without_rgb: bool) -> list[str]:
    """Warnings about what a map rests on, as sentences.

    Args:
        coverage: from :func:`coverage_report`.
        trained_without_rgb: whether training showed the model SAR alone, too.
    """
    found = []
    unseen, without_rgb = (coverage[name]["share"] or 0.0 for name in ("cloudy_rgb_only", "sar_only"))
    if unseen >= NOTED_SHARE:
        found.append(
            f"{unseen:.0%} of the map is under cloud where SAR has no data, so nothing sees the ground there; see "
            f"value {COVERAGE['cloudy_rgb_only']} of the coverage."
        )
    if without_rgb >= NOTED_SHARE and not trained_without_rgb:
        found.append(
            f"{without_rgb:.0%} of the map rests on SAR alone, for which this model was not trained; do not rely on it "
            "there, or train it with INPUT.DROP_RGB."
        )
    return found


def _by_coverage(measured: MeasuredValues, value: int | slice) -> dict[str, dict[str, Any]]:
    return {name: measured.of(value, group) for name, group in COVERAGE.items()}
