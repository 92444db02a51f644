"""The figure of an explanation: rows of maps, each with its own colour scale, below the images they belong to."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mm_ovseg.errors import DataError
from mm_ovseg.visualization.picture_file import PRINT_DPI, PRINT_FONT_SIZE, PRINT_WIDTH, add_panel, write_figure
from mm_ovseg.visualization.typesetting import break_text, shorten_text, underline

__all__ = ["ClassColumns", "MapRow", "draw_explanation_sheet"]

COLORS = "viridis"  # perceptually uniform, also for colour-blind readers

_PANEL_WIDTH, _MIN_PANEL_WIDTH = 1.3, 0.5  # inches, like all lengths of the layout
_LEFT, _RIGHT, _BORDER, _GAP, _GROUP_GAP = 1.0, 0.62, 0.06, 0.05, 0.16
_BAR_WIDTH = 0.09
_ASPECT_LIMITS = (0.1, 2.0)
_LINE = 1.25 * PRINT_FONT_SIZE / 72


@dataclass(frozen=True, eq=False)
class ClassColumns:
    """The columns of one class.

    Attributes:
        name: name of the class.
        is_unseen: whether the name is underlined.
        point: (x, y) in pixels of the image; a ring marks it in every panel.
        regions: a bool (H, W) mask for each column, outlined in the last row.
    """

    name: str
    is_unseen: bool
    point: tuple[float, float]
    regions: Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class MapRow:
    """One kind of map.

    Attributes:
        title: text to the left of the row.
        maps: (h, w) of any size for each column, class by class; None for no map.
        limits: the ends of the colour scale; None: the minimum and maximum of the row.
        missing: text in place of a map that is None.
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
        columns: titles of the columns of each class.
        images: uint8 (H, W, 3) for each column, above the rows; None leaves a gap. At least one is not None.
        classes: at least one, side by side.
        rows: from top to bottom.
        note: text at the bottom.
        page_width: maximum width in inches.
        dpi: pixels per inch of PNG and JPEG.

    Raises:
        DataError: the panels do not fit the page, the file type is unknown, or the file cannot be written.
    """
    count = len(classes) * len(columns)
    gaps = _GAP * (count - len(classes)) + _GROUP_GAP * (len(classes) - 1)
    panel_width = min(_PANEL_WIDTH, (page_width - _LEFT - _RIGHT - gaps) / count)
    if panel_width < _MIN_PANEL_WIDTH:
        raise DataError(
            f"{count} columns do not fit a page of {page_width:g} inches; draw fewer classes at once, or make the "
            "page wider."
        )
    page_width = _LEFT + count * panel_width + gaps + _RIGHT
    height, width = next(image.shape[:2] for image in images if image is not None)
    panel_height = panel_width * float(np.clip(height / width, *_ASPECT_LIMITS))
    headings = [break_text(title, panel_width, PRINT_FONT_SIZE) for title in columns]
    note_lines = break_text(note, page_width - 2 * _BORDER, PRINT_FONT_SIZE)
    heading_height = (max(map(len, headings)) + 1) * _LINE + 0.12
    note_height = len(note_lines) * _LINE + 0.08
    page_height = heading_height + (len(rows) + 1) * (panel_height + _GAP) + note_height + _BORDER
    figure = Figure(figsize=(page_width, page_height), dpi=dpi, facecolor="white")
    style = {"fontsize": PRINT_FONT_SIZE, "parse_math": False, "transform": figure.dpi_scale_trans}
    top = page_height - heading_height
    lefts = [_LEFT + i * (panel_width + _GAP) + i // len(columns) * (_GROUP_GAP - _GAP) for i in range(count)]
    bottoms = [top - (i + 1) * panel_height - i * _GAP for i in range(len(rows) + 1)]

    for number, group in enumerate(classes):
        places = lefts[number * len(columns) : (number + 1) * len(columns)]
        right = places[-1] + panel_width
        name = shorten_text(group.name, right - places[0], PRINT_FONT_SIZE)
        place = (places[0] + right) / 2, page_height - _LINE - 0.02
        title = figure.text(*place, name, ha="center", va="bottom", fontweight="bold", **style)
        if group.is_unseen:
            underline(title)
        for left, heading, image in zip(places, headings, images, strict=True):
            place = left + panel_width / 2, top + 0.05
            figure.text(*place, "\n".join(heading), ha="center", va="bottom", **style)
            if image is not None:
                axes = add_panel(figure, left, bottoms[0], panel_width, panel_height)
                axes.imshow(image, extent=(0, width, height, 0), aspect="auto")
                _mark(axes, group.point)
    for row, bottom in zip(rows, bottoms[1:], strict=True):
        title = "\n".join(break_text(row.title, _LEFT - 2 * _BORDER, PRINT_FONT_SIZE))
        figure.text(_BORDER, bottom + panel_height / 2, title, va="center", linespacing=1.1, **style)
        panels = [add_panel(figure, left, bottom, panel_width, panel_height) for left in lefts]
        bar = add_panel(figure, lefts[-1] + panel_width + _GAP, bottom, _BAR_WIDTH, panel_height)
        _draw_row(panels, bar, row, classes, (height, width), outline=row is rows[-1])
    figure.text(_BORDER, _BORDER, "\n".join(note_lines), va="bottom", linespacing=1.15, **style)
    write_figure(path, figure)


def _draw_row(
    panels: Sequence[Axes], bar: Axes, row: MapRow, groups: Sequence[ClassColumns], size: tuple[int, int], outline: bool
) -> None:
    """Draw the maps of a row on its panels, optionally with outlined regions, and their colour scale on ``bar``."""
    height, width = size
    given = [values for values in row.maps if values is not None]
    limits = row.limits or (min(values.min() for values in given), max(values.max() for values in given))
    scale = Normalize(*limits)
    columns = len(panels) // len(groups)
    for column, (axes, values) in enumerate(zip(panels, row.maps, strict=True)):
        group = groups[column // columns]
        axes.set(xlim=(0, width), ylim=(height, 0))
        if values is None:
            panel_width = axes.get_position().width * axes.figure.get_figwidth()
            text = "\n".join(break_text(row.missing, 0.9 * panel_width, PRINT_FONT_SIZE))
            style = {"fontsize": PRINT_FONT_SIZE, "parse_math": False, "color": "0.4"}
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", **style)
            continue
        style = {"cmap": COLORS, "norm": scale, "interpolation": "nearest", "aspect": "auto"}
        axes.imshow(values, extent=(0, width, height, 0), **style)
        _mark(axes, group.point)
        region = group.regions[column % columns]
        if outline and region.any() and not region.all():
            middles = (0.5, width - 0.5, 0.5, height - 0.5)
            axes.contour(region, levels=[0.5], colors="white", linewidths=0.9, extent=middles)
    colorbar = bar.figure.colorbar(ScalarMappable(scale, COLORS), cax=bar)
    colorbar.set_ticks(limits, labels=[f"{limit:.2g}" for limit in limits])
    bar.tick_params(labelsize=PRINT_FONT_SIZE, length=2, pad=1.5)
    for label, side in zip(bar.get_yticklabels(), ("bottom", "top"), strict=True):
        label.set_verticalalignment(side)  # inside the row


def _mark(axes: Axes, point: tuple[float, float]) -> None:
    """A ring that is visible on dark and light backgrounds."""
    for color, width in (("black", 2.0), ("white", 1.0)):
        style = {"markerfacecolor": "none", "markeredgecolor": color, "markeredgewidth": width, "clip_on": False}
        axes.plot(*point, "o", markersize=5, **style)
