"""A picture of a confusion matrix."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from mm_ovseg.visualization.picture_file import write_figure
from mm_ovseg.visualization.typesetting import shorten_text, underline

__all__ = ["draw_confusion_matrix"]

MAX_CLASSES_WITH_NUMBERS = 20
MAX_NAME = 1.8  # inches; longer names are shortened
ABSENT_CLASS_COLOR = "0.85"
WHITE_NUMBERS_FROM = 67  # percent; black is easier to read on lighter blue


def draw_confusion_matrix(
    path: str | os.PathLike,
    confusion_matrix: np.ndarray,
    classes: Sequence[str],
    unseen_classes: Sequence[str] = (),
    *,
    dpi: int = 150,
) -> None:
    """Draw a confusion matrix, each row in percent of the class's ground-truth pixels, and write it.

    Names of unseen classes are underlined; rows of classes without ground truth are grey. With up to 20 classes,
    the cells show their values.

    Args:
        path: the PNG, JPEG, PDF or SVG to write; missing folders are made.
        confusion_matrix: (T, T) pixel counts, ground truth by prediction.
        classes: the T class names.
        unseen_classes: those to underline.
        dpi: pixels per inch of PNG and JPEG.

    Raises:
        DataError: the file type is unknown, or the file cannot be written.
    """
    label_pixels = confusion_matrix.sum(axis=1, keepdims=True)  # (T, 1)
    percent = np.full(confusion_matrix.shape, np.nan)
    np.divide(100 * confusion_matrix, label_pixels, out=percent, where=label_pixels > 0)

    has_room = len(classes) <= MAX_CLASSES_WITH_NUMBERS
    cell = 0.55 if has_room else 0.13  # inches: room for a number, or for a name
    side = max(5.0, cell * len(classes) + 3)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["Blues"].with_extremes(bad=ABSENT_CLASS_COLOR)
    image = axes.imshow(np.ma.masked_invalid(percent), cmap=colors, vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class's pixels, %")
    axes.set_xlabel("prediction")
    axes.set_ylabel("ground truth" + (" (unseen classes underlined)" if unseen_classes else ""))
    # Class names are text, not formulas, even if they contain a dollar sign.
    style = {"fontsize": 10 if has_room else 6, "parse_math": False}
    names = [shorten_text(name, MAX_NAME, style["fontsize"]) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right", rotation_mode="anchor", **style)
    axes.set_yticks(range(len(classes)), names, **style)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for text, name in zip(labels, classes, strict=True):
            if name in unseen_classes:
                underline(text)
    for (row, column), value in np.ndenumerate(percent):
        if has_room and not np.isnan(value):
            color = "white" if value > WHITE_NUMBERS_FROM else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=color, fontsize=9)
    # Tight, since the layout does not account for the length of names.
    write_figure(path, figure, dpi=dpi, bbox_inches="tight", pad_inches=0.1)
