"""The figure of results: RGB, SAR, label and predictions side by side, one pair a row, above a legend of the classes.

draw_panels("maps.png", [PanelRow(rgb, sar, label, {"MM-OVSeg": prediction})], classes=..., colors=..., unseen=...)
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.files import complete_file
from mm_ovseg.visualization.underline import underline

__all__ = ["PanelRow", "draw_panels"]

IGNORED = 255
# Up to so many classes the legend shows all; of more, those that occur in the figure.
MAX_CLASSES_IN_LEGEND = 24
FILE_TYPES = ("png", "pdf", "svg")

_PANEL_WIDTH, _GAP, _BORDER = 2.4, 0.06, 0.08  # inches, like all lengths of the layout
_TITLE_HEIGHT, _NAME_WIDTH = 0.26, 0.24
_LEGEND_LINE, _SWATCH, _SWATCH_GAP, _ENTRY_GAP = 0.27, (0.24, 0.15), 0.07, 0.26
_ASPECT_LIMITS = (0.1, 4.0)  # height / width of a panel; what is longer still is drawn out of proportion
_FONT_SIZE = 10
_DPI = 200


@dataclass(frozen=True)
class PanelRow:
    """One pair and the maps of it.

    Attributes:
        rgb: (H, W, 3) uint8.
        sar: (H, W) or (H, W, 3), 0..255.
        label: (H, W) class indices, 255 where ignored; None for an unlabelled pair.
        predictions: Title -> (H, W) class indices, 255 for no data.
        name: Written at the left of the row.
    """

    rgb: np.ndarray
    sar: np.ndarray
    label: np.ndarray | None = None
    predictions: Mapping[str, np.ndarray] = field(default_factory=dict)
    name: str = ""


def draw_panels(
    path: str | os.PathLike,
    rows: Sequence[PanelRow],
    *,
    classes: Sequence[str],
    colors: Sequence[Sequence[int]],
    unseen: Sequence[str] = (),
) -> None:
    """Draw the figure and write it.

    Columns are RGB, SAR, the label (if any row has one) and every prediction title in order of appearance. Ignored and
    no-data pixels are white with grey stripes. The names of unseen classes are underlined in the legend.

    Args:
        path: The file, .png, .pdf or .svg; missing folders are made.
        rows: The pairs; at least one.
        classes: Class names.
        colors: (red, green, blue) of each class, 0..255.
        unseen: Those of ``classes`` to underline.

    Raises:
        DataError: There are no rows, the arrays of a row differ in size, a map holds a value that is no class, or the
            file cannot be written.
        VocabularyError: There are not as many colours as classes.
    """
    path = Path(path)
    if path.suffix[1:].lower() not in FILE_TYPES:
        raise DataError(f"{path} is no picture file; give a name that ends in .{', .'.join(FILE_TYPES)}.")
    if not rows:
        raise DataError(f"There is nothing to draw in {path}; give at least one pair.")
    if len(colors) != len(classes):
        raise VocabularyError(f"There are {len(colors)} colors for {len(classes)} classes; give one for each class.")
    table = [_row_images(row, number, np.asarray(colors, np.uint8)) for number, row in enumerate(rows, start=1)]
    titles = list(dict.fromkeys(title for images in table for title in images))
    titles.sort(key=lambda title: {"RGB": 0, "SAR": 1, "Label": 2}.get(title, 3))
    occurring = set().union(*(np.unique(maps).tolist() for row in rows for maps in _maps(row).values()))
    shown = [index for index in range(len(classes)) if len(classes) <= MAX_CLASSES_IN_LEGEND or index in occurring]
    entries = [(classes[index], tuple(np.asarray(colors[index]) / 255), classes[index] in unseen) for index in shown]
    if IGNORED in occurring:
        entries.append(("ignored", None, False))

    figure = _compose(table, titles, [row.name for row in rows], entries)
    with complete_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())


def _maps(row: PanelRow) -> dict[str, np.ndarray]:
    return ({} if row.label is None else {"Label": row.label}) | dict(row.predictions)


def _row_images(row: PanelRow, number: int, colors: np.ndarray) -> dict[str, np.ndarray]:
    """Title -> (H, W, 3) uint8 of one row."""
    size = row.rgb.shape[:2]
    sar = row.sar if row.sar.ndim == 3 else np.repeat(row.sar[..., None], 3, axis=2)
    images = {"RGB": row.rgb, "SAR": np.clip(sar, 0, 255).astype(np.uint8)}
    which = f"row {number}" + (f" ({row.name})" if row.name else "")
    for title, class_map in _maps(row).items():
        bad = np.setdiff1d(class_map, [*range(len(colors)), IGNORED])
        if len(bad):
            raise DataError(
                f"'{title}' in {which} holds the value {bad[0]}, which is no class; there are {len(colors)} "
                f"classes, and {IGNORED} means ignored."
            )
        images[title] = _color_map(class_map, colors)
    for title, image in images.items():
        if image.shape[:2] != size:
            raise DataError(
                f"'{title}' in {which} has the size {image.shape[:2]}, its RGB image {size}; they must agree."
            )
    return images


def _color_map(class_map: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """(H, W) indices to (H, W, 3) uint8; what is ignored is striped."""
    ignored = class_map == IGNORED
    image = colors[np.where(ignored, 0, class_map).astype(np.intp)]
    if ignored.any():
        image[ignored] = _stripes(class_map.shape)[ignored]
    return image


def _stripes(shape: tuple[int, int]) -> np.ndarray:
    """White with thin grey diagonals, some 24 across whatever the resolution."""
    period = max(4, shape[1] // 24)
    diagonal = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % period
    return np.where((diagonal < max(1, period // 5))[..., None], 170, 255).astype(np.uint8).repeat(3, axis=2)


def _compose(
    table: Sequence[Mapping[str, np.ndarray]],
    titles: Sequence[str],
    names: Sequence[str],
    entries: Sequence[tuple[str, tuple | None, bool]],
) -> Figure:
    """Lay the panels out on a page of just the size that they need."""
    left = _BORDER + (_NAME_WIDTH if any(names) else 0.0)
    shapes = [images["RGB"].shape for images in table]
    heights = [_PANEL_WIDTH * float(np.clip(shape[0] / shape[1], *_ASPECT_LIMITS)) for shape in shapes]
    width = left + len(titles) * (_PANEL_WIDTH + _GAP) - _GAP + _BORDER
    panels_height = sum(heights) + _GAP * (len(heights) - 1)

    figure = Figure(figsize=(width, 1.0), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    lines = _break_lines(figure, entries, width - 2 * _BORDER)
    legend_height = len(lines) * _LEGEND_LINE + 0.10
    height = _TITLE_HEIGHT + panels_height + legend_height + _BORDER / 2
    figure.set_size_inches(width, height)

    style = {"fontsize": _FONT_SIZE, "parse_math": False}  # titles and names are text, also where they hold a "$"
    top = height - _TITLE_HEIGHT
    for row, (images, name) in enumerate(zip(table, names, strict=True)):
        bottom = top - heights[row]
        if name:
            place = (_BORDER + _NAME_WIDTH / 2) / width, (bottom + heights[row] / 2) / height
            figure.text(*place, name, rotation=90, ha="center", va="center", **style)
        for column, title in enumerate(titles):
            x = left + column * (_PANEL_WIDTH + _GAP)
            if row == 0:
                place = (x + _PANEL_WIDTH / 2) / width, (top + 0.07) / height
                figure.text(*place, title, ha="center", va="baseline", **style)
            if title in images:
                axes = figure.add_axes((x / width, bottom / height, _PANEL_WIDTH / width, heights[row] / height))
                interpolation = "nearest" if title not in ("RGB", "SAR") else "antialiased"
                axes.imshow(images[title], interpolation=interpolation, aspect="auto")
                axes.set_axis_off()
        top = bottom - _GAP
    for number, line in enumerate(lines):
        _draw_legend_line(figure, line, legend_height - 0.10 - (number + 0.5) * _LEGEND_LINE + _BORDER / 2)
    return figure


def _text_width(figure: Figure, text: str) -> float:
    """Inches."""
    drawn = figure.text(0, 0, text, fontsize=_FONT_SIZE, parse_math=False)
    extent = drawn.get_window_extent(figure.canvas.get_renderer())
    drawn.remove()
    return extent.width / figure.dpi


def _break_lines(
    figure: Figure, entries: Sequence[tuple[str, tuple | None, bool]], available: float
) -> list[list[tuple[float, tuple]]]:
    """Distribute the legend's entries over lines: (width of the entry in inches, entry)."""
    lines: list[list[tuple[float, tuple]]] = [[]]
    used = 0.0
    for entry in entries:
        width = _SWATCH[0] + _SWATCH_GAP + _text_width(figure, entry[0])
        if lines[-1] and used + _ENTRY_GAP + width > available:
            lines.append([])
            used = 0.0
        used += width + (_ENTRY_GAP if lines[-1] else 0.0)
        lines[-1].append((width, entry))
    return lines


def _draw_legend_line(figure: Figure, line: Sequence[tuple[float, tuple]], y: float) -> None:
    """One centred line of swatches and names, its middle ``y`` inches above the page's lower edge."""
    page_width, page_height = figure.get_size_inches()
    x = (page_width - sum(width for width, _ in line) - _ENTRY_GAP * (len(line) - 1)) / 2
    for width, (name, color, is_unseen) in line:
        swatch = Rectangle(
            (x / page_width, (y - _SWATCH[1] / 2) / page_height),
            _SWATCH[0] / page_width,
            _SWATCH[1] / page_height,
            transform=figure.transFigure,
            facecolor="white" if color is None else color,
            edgecolor="0.35",
            linewidth=0.6,
            hatch="/////" if color is None else None,
        )
        figure.add_artist(swatch)
        text = figure.text(
            (x + _SWATCH[0] + _SWATCH_GAP) / page_width,
            (y - 0.05) / page_height,
            name,
            fontsize=_FONT_SIZE,
            va="baseline",
            parse_math=False,
        )
        if is_unseen:
            underline(text)
        x += width + _ENTRY_GAP
