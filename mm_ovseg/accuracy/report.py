"""The estimates as a report: a dict for JSON, and text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from mm_ovseg.accuracy.estimators import Z_95, Accuracy, Estimate, StratifiedSample
from mm_ovseg.accuracy.population import Census

__all__ = ["build_report", "format_report"]


def build_report(
    accuracy: Accuracy,
    names: Sequence[str],
    *,
    mapped: Sequence[tuple[int, float | None]],
    sample: StratifiedSample,
    census: Census,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that was estimated, ready for JSON; None where something is not defined.

    Args:
        accuracy: the estimates for K classes.
        names: their names.
        mapped: pixels and hectares of each in the map.
        sample, census: what they were estimated from.
        facts: what else belongs in the report.

    Returns:
        ``facts``, ``points``, ``strata``, ``overall_accuracy``, ``classes`` and ``error_matrix``. Each estimate has
        ``value``, ``standard_error`` and ``interval_95``, two numbers. Areas are in hectares, and null where the size
        of the pixels is unknown; ``area_share`` is their share of the map, 0..1.
    """
    hectares = float(census.hectares.sum())
    points = sample.points
    classes = [
        {
            "name": name,
            "mapped_pixels": mapped[index][0],
            "mapped_hectares": mapped[index][1],
            "area_share": _interval(accuracy.areas[index]),
            "area_hectares": None if math.isnan(hectares) else _interval(accuracy.areas[index], hectares),
            "users_accuracy": _interval(accuracy.users[index]),
            "producers_accuracy": _interval(accuracy.producers[index]),
        }
        for index, name in enumerate(names)
    ]
    strata = [
        {
            "name": name,
            "pixels": int(census.pixels[index]),
            "hectares": None if math.isnan(hectares) else float(census.hectares[index]),
            "points": int(points[index]),
        }
        for index, name in enumerate(census.names)
    ]
    return {
        **facts,
        "points": int(points.sum()),
        "strata": strata,
        "overall_accuracy": _interval(accuracy.overall),
        "classes": classes,
        "error_matrix": {
            "rows": "map",
            "columns": "reference",
            "classes": list(names),
            "points": accuracy.counts.tolist(),
            "area_shares": accuracy.shares.tolist(),
        },
        "warnings": _warnings(facts, sample, census),
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The tables of a report as text, in Markdown."""
    in_hectares = all(entry["area_hectares"] is not None for entry in report["classes"])
    unit, key, scale, digits = ("ha", "area_hectares", 1, 1) if in_hectares else ("%", "area_share", 100, 2)
    total = sum(entry["mapped_pixels"] for entry in report["classes"])
    rows = [
        [
            entry["name"],
            f"{entry['mapped_hectares']:,.1f}" if in_hectares else f"{100 * entry['mapped_pixels'] / total:.2f}",
            _text(entry[key], scale, digits),
            _text(entry["users_accuracy"]),
            _text(entry["producers_accuracy"]),
        ]
        for entry in report["classes"]
    ]
    headers = ["class", f"mapped, {unit}", f"estimated area, {unit}", "user's accuracy", "producer's accuracy"]
    matrix = report["error_matrix"]
    counts = [[name, *row] for name, row in zip(matrix["classes"], matrix["points"], strict=True)]
    parts = [
        _table(rows, headers),
        f"Overall accuracy: {_text(report['overall_accuracy'])}, from {report['points']} points. "
        "± is half a confidence interval of 95%.",
        _table(counts, ["points: map \\ reference", *matrix["classes"]]),
        *(f"Note: {warning}" for warning in report["warnings"]),
    ]
    return "\n\n".join(parts)


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    alignment = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=alignment)


def _interval(estimate: Estimate, scale: float = 1.0) -> dict[str, Any] | None:
    if math.isnan(estimate.value):
        return None
    low, high = (estimate.value + sign * estimate.half_width for sign in (-1, 1))
    return {
        "value": estimate.value * scale,
        "standard_error": estimate.standard_error * scale,
        "interval_95": [max(low, 0.0) * scale, min(high, 1.0) * scale],
    }


def _text(estimate: Mapping[str, Any] | None, scale: float = 1.0, digits: int = 2) -> str:
    if estimate is None:
        return "-"
    half_width = Z_95 * estimate["standard_error"] * scale
    return f"{estimate['value'] * scale:,.{digits}f} ± {half_width:,.{digits}f}"


def _warnings(facts: Mapping[str, Any], sample: StratifiedSample, census: Census) -> list[str]:
    warnings = []
    if facts["design"] is None:
        warnings.append(
            "The points come without a design, and are taken for a simple random sample of the pixels of each stratum; "
            "the intervals hold only if they are."
        )
    if facts["unlabelled_points"]:
        warnings.append(f"{facts['unlabelled_points']} points without a class are left out as if missing by chance.")
    if facts["points_in_training_area"]:
        warnings.append(f"{facts['points_in_training_area']} points are in the training area, as a random sample has.")
    alike = [
        f"'{name}' ({count})"
        for index, (name, count) in enumerate(zip(census.names, sample.points, strict=True))
        if count < census.pixels[index] and len(np.unique(sample.reference[sample.strata == index])) == 1
    ]
    if alike:
        warnings.append(
            f"All points of the strata {', '.join(alike)} have one reference class, so their standard error is 0, and "
            "intervals that rest on them are too narrow."
        )
    return warnings
