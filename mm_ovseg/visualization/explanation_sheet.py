"""The figure of an explanation: maps of numbers, each row of them on one colour scale, below the images they are of."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mm_ovseg.errors import DataError
from mm_ovseg.visualization.legend import break_text, shorten_text
from mm_ovseg.visualization.picture_file import (
    PRINT_DPI,
    PRINT_FONT_SIZE,
    PRINT_WIDTH,
    check_picture_name,
    write_figure,
)
from mm_ovseg.visualization.underline import underline

__all__ = ["ClassColumns", "MapRow", "draw_explanation_sheet"]

COLORS = "viridis"  # even in brightness, also to colour-blind readers

_PANEL_WIDTH, _LEAST_PANEL_WIDTH = 1.3, 0.5  # inches, like all lengths of the layout
_LEFT, _RIGHT, _BORDER, _GAP, _GROUP_GAP = 1.0, 0.62, 0.06, 0.05, 0.16
_BAR_WIDTH = 0.09
_ASPECT_LIMITS = (0.1, 2.0)
_LINE = 1.25 * PRINT_FONT_SIZE / 72
_STYLE = {"fontsize": PRINT_FONT_SIZE, "parse_math": False}


@dataclass(frozen=True, eq=False)
class ClassColumns:
    """The columns of one class.

    Attributes:
        name: of the class.
        is_unseen: whether the name is underlined.
        point: (x, y) in pixels of the image; a ring marks it in every panel.
        regions: bool (H, W) a column; a line surrounds them in the last row.
    """

    name: str
    is_unseen: bool
    point: tuple[float, float]
    regions: Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class MapRow:
    """One kind of map.

    Attributes:
        title: at the left of the row.
        maps: (h, w) of any sizes, one a column, class by class; None where there is none.
        limits: the numbers at the ends of the colour scale; None: the least and the greatest in the row.
        missing: what stands where there is none.
    """

    title: str
    maps: Sequence[np.ndarray | None]
    limits: tuple[float, float] | None = None
    missing: str = "none"


def draw_explanation_sheet(
    path: str | os.PathLike,
    *,
    columns: Sequence[str],
    images: Sequence[np.ndarray | None],
    classes: Sequence[ClassColumns],
    rows: Sequence[MapRow],
    note: str,
    page_width: float = PRINT_WIDTH,
    dpi: float = PRINT_DPI,
) -> None:
    """Draw the figure and write it.

    Args:
        path: the PNG, JPEG, PDF or SVG to write; missing folders are made.
        columns: titles of the columns that each class has.
        images: (H, W, 3) uint8, one a column, above the rows; None leaves the place empty. At least one is given.
        classes: side by side; at least one.
        rows: from top to bottom.
        note: below everything.
        page_width: inches; a figure that needs less is narrower.
        dpi: pixels an inch of PNG and JPEG.

    Raises:
        DataError: the panels do not fit the page, the name ends in no known file type, or the file cannot be written.
    """
    check_picture_name(path)
    count = len(classes) * len(columns)
    gaps = _GAP * (count - len(classes)) + _GROUP_GAP * (len(classes) - 1)
    panel_width = min(_PANEL_WIDTH, (page_width - _LEFT - _RIGHT - gaps) / count)
    if panel_width < _LEAST_PANEL_WIDTH:
        raise DataError(
            f"{count} columns do not fit a page of {page_width:g} inches; draw fewer classes at once, or make the "
            "page wider."
        )
    height, width = next(image.shape[:2] for image in images if image is not None)
    panel_height = panel_width * float(np.clip(height / width, *_ASPECT_LIMITS))
    page = _Page(panel_width, panel_height, len(columns), count, gaps)
    headings = [break_text(title, panel_width, PRINT_FONT_SIZE) for title in columns]
    note_lines = break_text(note, page.width - 2 * _BORDER, PRINT_FONT_SIZE)
    heading_height = (max(map(len, headings)) + 1) * _LINE + 0.12
    note_height = len(note_lines) * _LINE + 0.08
    page_height = heading_height + (len(rows) + 1) * (panel_height + _GAP) + note_height + _BORDER
    figure = Figure(figsize=(page.width, page_height), dpi=dpi, facecolor="white")
    page.figure, page.top = figure, page_height - heading_height

    for number, group in enumerate(classes):
        first, last = number * len(columns), (number + 1) * len(columns) - 1
        middle = (page.left(first) + page.left(last) + panel_width) / 2
        name = shorten_text(group.name, page.left(last) + panel_width - page.left(first), PRINT_FONT_SIZE)
        title = page.write(middle, page_height - _LINE - 0.02, name, ha="center", fontweight="bold")
        if group.is_unseen:
            underline(title)
        for column, (heading, image) in enumerate(zip(headings, images, strict=True)):
            page.write(page.left(first + column) + panel_width / 2, page.top + 0.05, "\n".join(heading), ha="center")
            if image is not None:
                axes = page.panel(0, first + column)
                axes.imshow(image, extent=(0, width, height, 0), aspect="auto")
                _mark(axes, group.point)
    for number, row in enumerate(rows, start=1):
        _draw_row(page, number, row, classes, (height, width), is_last=number == len(rows))
    page.write(_BORDER, _BORDER, "\n".join(note_lines), linespacing=1.15)
    write_figure(path, figure)


class _Page:
    """Places on the page, in inches."""

    def __init__(self, panel_width: float, panel_height: float, columns: int, count: int, gaps: float) -> None:
        self.panel_width, self.panel_height = panel_width, panel_height
        self.width = _LEFT + count * panel_width + gaps + _RIGHT
        self._columns = columns
        self.figure: Figure
        self.top: float  # of the first row

    def left(self, column: int) -> float:
        """Of a panel."""
        return _LEFT + column * (self.panel_width + _GAP) + column // self._columns * (_GROUP_GAP - _GAP)

    def bottom(self, row: int) -> float:
        """Of a panel."""
        return self.top - (row + 1) * self.panel_height - row * _GAP

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """New axes without ticks."""
        page_width, page_height = self.figure.get_size_inches()
        place = (left / page_width, bottom / page_height, width / page_width, height / page_height)
        return self.figure.add_axes(place, xticks=[], yticks=[])

    def panel(self, row: int, column: int) -> Axes:
        """New axes for a panel."""
        axes = self.axes(self.left(column), self.bottom(row), self.panel_width, self.panel_height)
        axes.spines[:].set(color="0.6", linewidth=0.4)
        return axes

    def write(self, x: float, y: float, text: str, **style):
        """Write on the page; ``y`` is the lowest baseline."""
        page_width, page_height = self.figure.get_size_inches()
        return self.figure.text(x / page_width, y / page_height, text, **{"va": "bottom", **_STYLE, **style})


def _draw_row(
    page: _Page, number: int, row: MapRow, classes: Sequence[ClassColumns], size: tuple[int, int], *, is_last: bool
) -> None:
    given = [values for values in row.maps if values is not None]
    limits = row.limits or (min(values.min() for values in given), max(values.max() for values in given))
    scale = Normalize(*limits)
    columns = len(row.maps) // len(classes)
    title = break_text(row.title, _LEFT - 2 * _BORDER, PRINT_FONT_SIZE)
    middle = page.bottom(number) + page.panel_height / 2
    page.write(_BORDER, middle, "\n".join(title), va="center", linespacing=1.1)
    for column, values in enumerate(row.maps):
        group = classes[column // columns]
        axes = page.panel(number, column)
        axes.set(xlim=(0, size[1]), ylim=(size[0], 0))
        if values is None:
            text = "\n".join(break_text(row.missing, 0.9 * page.panel_width, PRINT_FONT_SIZE))
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.4", **_STYLE)
            continue
        style = {"cmap": COLORS, "norm": scale, "interpolation": "nearest", "aspect": "auto"}
        axes.imshow(values, extent=(0, size[1], size[0], 0), **style)
        _mark(axes, group.point)
        region = group.regions[column % columns]
        if is_last and region.any() and not region.all():
            style = {
                "levels": [0.5],
                "colors": "white",
                "linewidths": 0.9,
                "extent": (0.5, size[1] - 0.5, 0.5, size[0] - 0.5),
            }
            axes.contour(region.astype(float), **style)
    bar = page.axes(
        page.left(len(row.maps) - 1) + page.panel_width + _GAP, page.bottom(number), _BAR_WIDTH, page.panel_height
    )
    colorbar = page.figure.colorbar(ScalarMappable(scale, colormaps[COLORS]), cax=bar)
    colorbar.set_ticks(limits, labels=[f"{limit:.2g}" for limit in limits])
    colorbar.ax.tick_params(labelsize=PRINT_FONT_SIZE, length=2, pad=1.5)
    for label, side in zip(colorbar.ax.get_yticklabels(), ("bottom", "top"), strict=True):
        label.set_verticalalignment(side)  # inside the row


def _mark(axes: Axes, point: tuple[float, float]) -> None:
    """A ring that stands out from dark and from light."""
    for color, width in (("black", 2.0), ("white", 1.0)):
        style = {"markerfacecolor": "none", "markeredgecolor": color, "markeredgewidth": width, "clip_on": False}
        axes.plot(*point, "o", markersize=5, **style)
