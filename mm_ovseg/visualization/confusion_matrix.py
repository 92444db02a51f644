"""A picture of which classes are taken for which."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mm_ovseg.visualization.picture_file import write_figure
from mm_ovseg.visualization.underline import underline

__all__ = ["draw_confusion_matrix"]

MAX_CLASSES_WITH_NUMBERS = 20
ABSENT_CLASS_COLOR = "0.85"
WHITE_NUMBERS_FROM = 67  # percent; on lighter blue black stands out more


def draw_confusion_matrix(
    path: str | os.PathLike,
    confusion_matrix: np.ndarray,
    classes: Sequence[str],
    unseen_classes: Sequence[str] = (),
    *,
    dpi: int = 150,
) -> None:
    """Draw a confusion matrix, each row in percent of that class's ground-truth pixels, and write it.

    Names of unseen classes are underlined; rows of classes without ground truth are grey. Up to 20 classes, cells hold
    their numbers.

    Args:
        path: the PNG, JPEG, PDF or SVG to write; missing folders are made.
        confusion_matrix: (T, T) pixel counts, ground truth by prediction.
        classes: the T class names.
        unseen_classes: those of them that are underlined.
        dpi: pixels an inch of PNG and JPEG.

    Raises:
        DataError: the name ends in no known file type, or the file cannot be written.
    """
    label_pixels = confusion_matrix.sum(axis=1, keepdims=True)  # (T, 1)
    percent = np.full(confusion_matrix.shape, np.nan)
    np.divide(100 * confusion_matrix, label_pixels, out=percent, where=label_pixels > 0)

    cell = 0.55 if len(classes) <= MAX_CLASSES_WITH_NUMBERS else 0.13  # inches: room for a number, or for a name
    side = max(5.0, cell * len(classes) + 3)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["Blues"].with_extremes(bad=ABSENT_CLASS_COLOR)
    image = axes.imshow(np.ma.masked_invalid(percent), cmap=colors, vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class's pixels, %")
    axes.set_xlabel("prediction")
    axes.set_ylabel("ground truth" + (" (unseen classes underlined)" if unseen_classes else ""))
    _write_names(axes, classes, unseen_classes)
    if len(classes) <= MAX_CLASSES_WITH_NUMBERS:
        _write_numbers(axes, percent)
    # Tight: the layout does not count on names of any length.
    write_figure(path, figure, dpi=dpi, bbox_inches="tight", pad_inches=0.1)


def _write_names(axes: Axes, classes: Sequence[str], unseen_classes: Sequence[str]) -> None:
    ticks = range(len(classes))
    size = 10 if len(classes) <= MAX_CLASSES_WITH_NUMBERS else 6
    # Class names are text, not formulas, also where they hold a dollar sign.
    style = {"fontsize": size, "parse_math": False}
    axes.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor", **style)
    axes.set_yticks(ticks, classes, **style)
    for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        if text.get_text() in unseen_classes:
            underline(text)


def _write_numbers(axes: Axes, percent: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(percent):
        if not np.isnan(value):
            color = "white" if value > WHITE_NUMBERS_FROM else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=color, fontsize=9)
