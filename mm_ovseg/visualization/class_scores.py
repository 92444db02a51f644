"""A bar chart of the IoU of every class, with several models side by side."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mm_ovseg.data.palette import SERIES_COLORS
from mm_ovseg.errors import DataError
from mm_ovseg.visualization.picture_file import PRINT_DPI, PRINT_FONT_SIZE, PRINT_WIDTH, write_figure
from mm_ovseg.visualization.typesetting import break_text, shorten_text, text_width, underline
from mm_ovseg.vocabulary import seen_classes

__all__ = ["draw_class_scores"]

MIN_FONT_SIZE = 7  # points; numbers above the bars
MEANS = {"mIoU-seen": "seen", "mIoU-unseen": "unseen", "mIoU": "all"}

_HEIGHT, _AXIS_WIDTH, _MAX_NAME = 2.8, 0.5, 1.2  # inches
_GROUP_GAP = 0.5  # between seen, unseen and means, in class widths
_BARS = 0.84  # total width of a class's bars, in class widths
_LEGEND_LINE = 0.17  # inches
_LEGEND_ROOM = 4.8 * PRINT_FONT_SIZE / 72  # inches per entry, without text: matplotlib's swatch and gaps


def draw_class_scores(
    path: str | os.PathLike,
    scores: Mapping[str, Mapping[str, float]],
    classes: Sequence[str],
    unseen_classes: Sequence[str] = (),
    *,
    page_width: float = PRINT_WIDTH,
    dpi: float = PRINT_DPI,
) -> None:
    """Draw the IoU of every class in percent: seen classes, then unseen classes, then the means.

    Names of unseen classes are underlined. A class without ground truth has a dash instead of a bar.

    Args:
        path: the PNG, JPEG, PDF or SVG to write; missing folders are made.
        scores: title of a model -> what :func:`~mm_ovseg.evaluation.segmentation_metrics` returns; 1 to 8 models.
        classes: the T class names.
        unseen_classes: those without labels in training.
        page_width: inches.
        dpi: pixels per inch of PNG and JPEG.

    Raises:
        DataError: there are too many models, the file type is unknown, or the file cannot be written.
    """
    if not 1 <= len(scores) <= len(SERIES_COLORS):
        raise DataError(f"{path} would show {len(scores)} models; choose 1 to {len(SERIES_COLORS)}.")
    unseen = [name for name in classes if name in unseen_classes]
    groups = {
        "seen classes": {f"IoU-{name}": name for name in seen_classes(classes, unseen)},
        "unseen classes": {f"IoU-{name}": name for name in unseen},
        "mean IoU": MEANS if unseen else {"mIoU": "all"},
    }
    groups = {title: bars for title, bars in groups.items() if bars}
    count = sum(map(len, groups.values())) + _GROUP_GAP * (len(groups) - 1)
    titles = [shorten_text(title, page_width - _LEGEND_ROOM, PRINT_FONT_SIZE) for title in scores]
    widest = max(text_width(title, PRINT_FONT_SIZE) for title in titles) + _LEGEND_ROOM
    columns = max(1, min(4, int(page_width / widest)))
    height = _HEIGHT + _LEGEND_LINE * (math.ceil(len(titles) / columns) - 1)
    figure = Figure(figsize=(page_width, height), dpi=dpi, layout="constrained")
    axes = figure.add_subplot(xlim=(-0.6, count - 0.4))
    place_width = (page_width - _AXIS_WIDTH) / count  # inches, of a class
    names: dict[float, str] = {}  # by place
    for number, (title, bars) in enumerate(groups.items()):
        places = len(names) + _GROUP_GAP * number + np.arange(len(bars))
        names |= zip(places, bars.values(), strict=True)
        edges = places[0] - 0.5 - _GROUP_GAP / 2, places[-1] + 0.5 + _GROUP_GAP / 2
        if number % 2:
            axes.axvspan(*edges, color="0.94", zorder=0)
        lines = break_text(title, (edges[1] - edges[0]) * place_width, PRINT_FONT_SIZE)
        style = {"ha": "center", "va": "bottom", "fontsize": PRINT_FONT_SIZE}
        axes.text(places.mean(), 1.01, "\n".join(lines), transform=axes.get_xaxis_transform(), **style)
        for index, run in enumerate(scores.values()):
            _draw_bars(axes, places, [run[key] for key in bars], index, len(scores), place_width)
    _write_names(axes, names, place_width)
    for label in axes.get_xticklabels()[len(classes) - len(unseen) : len(classes)]:
        underline(label)
    axes.set_ylabel("IoU, %", fontsize=PRINT_FONT_SIZE)
    axes.set_yticks(range(0, 101, 20))
    axes.tick_params(labelsize=PRINT_FONT_SIZE, bottom=False)
    axes.spines[["top", "right"]].set_visible(False)
    if len(scores) > 1:
        swatches = [Patch(color=np.divide(color, 255)) for color in SERIES_COLORS[: len(titles)]]
        style = {"loc": "outside upper center", "fontsize": PRINT_FONT_SIZE, "frameon": False}
        for text in figure.legend(swatches, titles, ncols=columns, **style).get_texts():
            text.set_parse_math(False)
    write_figure(path, figure)


def _draw_bars(
    axes: Axes, places: np.ndarray, values: Sequence[float], index: int, models: int, place_width: float
) -> None:
    """Draw the bars of one model and, where there is room, their numbers."""
    width = _BARS / models
    places = places + (index - (models - 1) / 2) * width
    color = np.divide(SERIES_COLORS[index], 255)
    bars = axes.bar(places, np.nan_to_num(values), 0.92 * width, color=color, zorder=2)
    # Digits are about half as wide as the font is high.
    upright, turned = (width * place_width * 72 > ems * MIN_FONT_SIZE for ems in (2.4, 1.1))
    axes.set_ylim(0, 104 if upright or not turned else 115)
    numbers = ["–" if math.isnan(value) else f"{value:.1f}" if turned else "" for value in values]
    for text in axes.bar_label(bars, numbers, padding=1.5, fontsize=MIN_FONT_SIZE, zorder=3):
        text.set_rotation(0 if upright or text.get_text() == "–" else 90)


def _write_names(axes: Axes, names: Mapping[float, str], place_width: float) -> None:
    """Upright names are easier to read; if one would be shortened, all of them are slanted."""
    lines = [break_text(name, 0.94 * place_width, PRINT_FONT_SIZE) for name in names.values()]
    if all(" ".join(parts) == " ".join(name.split()) for parts, name in zip(lines, names.values(), strict=True)):
        labels, style = ["\n".join(parts) for parts in lines], {"linespacing": 1.05}
    else:
        labels = [shorten_text(name, _MAX_NAME, PRINT_FONT_SIZE) for name in names.values()]
        style = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(list(names), labels, parse_math=False, **style)
