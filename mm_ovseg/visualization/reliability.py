"""A figure of confidences: a reliability diagram, and the risk by coverage."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mm_ovseg.data.palette import SERIES_COLORS
from mm_ovseg.errors import DataError
from mm_ovseg.visualization.picture_file import PRINT_DPI, PRINT_FONT_SIZE, PRINT_WIDTH, write_figure
from mm_ovseg.visualization.typesetting import shorten_text

__all__ = ["draw_reliability"]

GROUPS = ("all", "seen", "unseen")
MAX_AREA = 60  # points², of the circle of a bin that holds all pixels
MAX_COLUMNS = 3  # of the legend
_HEIGHT, _LEGEND_LINE, _SWATCH = 3.0, 0.17, 0.6  # inches


def draw_reliability(
    path: str | os.PathLike,
    curves: Mapping[str, Mapping[str, Any]],
    *,
    page_width: float = PRINT_WIDTH,
    dpi: float = PRINT_DPI,
) -> None:
    """Draw a reliability diagram, and the share of wrong pixels among the most confident ones, side by side.

    One evaluation has a line for all pixels, and for those of seen and of unseen ground truth; several have one line
    each, for all pixels. The area of a circle is the share of the pixels in its bin.

    Args:
        path: the PNG, JPEG, PDF or SVG to write; missing folders are made.
        curves: title -> ``confidence_curves`` of an evaluation; 1 to 8.
        page_width: inches.
        dpi: pixels per inch of PNG and JPEG.

    Raises:
        DataError: there are too many evaluations, the file type is unknown, or the file cannot be written.
    """
    if not 1 <= len(curves) <= len(SERIES_COLORS):
        raise DataError(f"{path} would show {len(curves)} evaluations; choose 1 to {len(SERIES_COLORS)}.")
    if len(curves) == 1:
        (of_one,) = curves.values()
        lines = {f"{group} ground truth": of_one[group] for group in GROUPS}
    else:
        lines = {title: of_one["all"] for title, of_one in curves.items()}
    lines = {title: line for title, line in lines.items() if line is not None}
    columns = min(MAX_COLUMNS, len(lines))
    height = _HEIGHT + _LEGEND_LINE * math.ceil(len(lines) / columns)
    figure = Figure(figsize=(page_width, height), dpi=dpi, layout="constrained")
    left, right = figure.subplots(1, 2)
    _prepare(left, "confidence, %", "accuracy, %")
    _prepare(right, "coverage: most confident pixels, %", "risk: wrong pixels among them, %")
    left.set(ylim=(0, 102), aspect="equal")
    left.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle="--", zorder=1)
    for (title, line), color in zip(lines.items(), SERIES_COLORS, strict=False):
        style = {"color": np.divide(color, 255), "linewidth": 1.2}
        _draw_bins(left, line, style)
        risk = 100 * np.array(line["risk"], float)
        coverage = 100 * np.arange(1, len(risk) + 1) / len(risk)
        right.plot(coverage, risk, label=shorten_text(title, page_width / columns - _SWATCH, PRINT_FONT_SIZE), **style)
    right.set_ylim(bottom=0)
    legend = figure.legend(loc="outside upper center", ncols=columns, fontsize=PRINT_FONT_SIZE, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    write_figure(path, figure)


def _prepare(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set(xlim=(0, 102))
    axes.set_xlabel(x_label, fontsize=PRINT_FONT_SIZE)
    axes.set_ylabel(y_label, fontsize=PRINT_FONT_SIZE)
    axes.tick_params(labelsize=PRINT_FONT_SIZE)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bins(axes: Axes, line: Mapping[str, Sequence[float | None]], style: Mapping[str, Any]) -> None:
    pixels, confidence, accuracy = (np.array(line[key], float) for key in ("pixels", "confidence", "accuracy"))
    filled = pixels > 0
    points = 100 * confidence[filled], 100 * accuracy[filled]
    axes.plot(*points, zorder=2, **style)
    axes.scatter(*points, MAX_AREA * pixels[filled] / pixels.sum() + 2, color=style["color"], zorder=3)
