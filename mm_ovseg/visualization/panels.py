"""The figure of results: RGB, SAR, ground truth and predictions side by side, a pair a row, above a legend of classes.

draw_panels("maps.png", [PanelRow(rgb, sar, label, {"MM-OVSeg": prediction})], classes=..., colors=..., unseen=...)
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.visualization.legend import Legend, LegendEntry, break_text, shorten_text
from mm_ovseg.visualization.picture_file import PRINT_DPI, PRINT_FONT_SIZE, check_picture_name, write_figure

__all__ = ["IMAGE_TITLES", "PanelRow", "draw_panels"]

IGNORED = 255
GROUND_TRUTH = "Ground truth"
IMAGE_TITLES = ("RGB", "SAR", GROUND_TRUTH)  # of the columns before the predictions, in order
# Up to so many classes the legend shows all; of more, those that occur in the figure.
MAX_CLASSES_IN_LEGEND = 24

_FONT_SIZE, _DPI = 10, 200  # where no page is to be fitted
_PANEL_WIDTH, _GAP, _BORDER = 2.4, 0.06, 0.08  # inches, like all lengths of the layout
_LEAST_PANEL_WIDTH = 0.5
_ASPECT_LIMITS = (0.1, 4.0)  # height / width of a panel; what is longer still is drawn out of proportion


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
    page_width: float | None = None,
    dpi: float | None = None,
) -> None:
    """Draw the figure and write it.

    Columns are RGB, SAR, the ground truth (if any row has one) and every prediction title in order of appearance.
    Ignored and no-data pixels are white with grey stripes. The names of unseen classes are underlined in the legend.

    Args:
        path: The file, .png, .jpg, .pdf or .svg; missing folders are made.
        rows: The pairs; at least one.
        classes: Class names.
        colors: (red, green, blue) of each class, 0..255.
        unseen: Those of ``classes`` to underline.
        page_width: Inches, for print: panels are made to fit, and all text has 8 points. None: panels are 2.4 inches
            wide, and the page as wide as they need.
        dpi: Pixels an inch of what the file holds as pixels; None: 200, with ``page_width`` 300.

    Raises:
        DataError: There are no rows, the arrays of a row differ in size, a map holds a value that is no class, the
            panels do not fit the page, or the file cannot be written.
        VocabularyError: There are not as many colours as classes.
    """
    check_picture_name(path)
    if not rows:
        raise DataError(f"There is nothing to draw in {path}; give at least one pair.")
    if len(colors) != len(classes):
        raise VocabularyError(f"There are {len(colors)} colors for {len(classes)} classes; give one for each class.")
    table = [_row_images(row, number, np.asarray(colors, np.uint8)) for number, row in enumerate(rows, start=1)]
    titles = list(dict.fromkeys(title for images in table for title in images))
    titles.sort(key=lambda title: IMAGE_TITLES.index(title) if title in IMAGE_TITLES else len(IMAGE_TITLES))
    occurring = set().union(*(np.unique(maps).tolist() for row in rows for maps in _maps(row).values()))
    shown = [index for index in range(len(classes)) if len(classes) <= MAX_CLASSES_IN_LEGEND or index in occurring]
    entries = [
        LegendEntry(classes[index], tuple(np.asarray(colors[index]) / 255), classes[index] in unseen) for index in shown
    ]
    if IGNORED in occurring:
        entries.append(LegendEntry("ignored", None, is_unseen=False))

    figure = _compose(table, titles, [row.name for row in rows], entries, page_width)
    write_figure(path, figure, dpi=dpi or "figure")


def _maps(row: PanelRow) -> dict[str, np.ndarray]:
    return ({} if row.label is None else {GROUND_TRUTH: row.label}) | dict(row.predictions)


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
    entries: Sequence[LegendEntry],
    page_width: float | None,
) -> Figure:
    """Lay the panels out on a page of the width that is asked for, or that they need, and of the height they need."""
    font_size, dpi = (_FONT_SIZE, _DPI) if page_width is None else (PRINT_FONT_SIZE, PRINT_DPI)
    line_height = 1.25 * font_size / 72
    left = _BORDER + (1.7 * font_size / 72 if any(names) else 0.0)
    panel_width = _PANEL_WIDTH
    width = left + len(titles) * (panel_width + _GAP) - _GAP + _BORDER
    if page_width is not None:
        panel_width += (page_width - width) / len(titles)
        width = page_width
        if panel_width < _LEAST_PANEL_WIDTH:
            raise DataError(
                f"{len(titles)} columns ({', '.join(titles)}) do not fit a page of {page_width:g} inches; draw fewer, "
                "or make the page wider."
            )
    shapes = [images["RGB"].shape for images in table]
    heights = [panel_width * float(np.clip(shape[0] / shape[1], *_ASPECT_LIMITS)) for shape in shapes]
    headings = [break_text(title, panel_width, font_size) for title in titles]
    title_height = max(map(len, headings)) * line_height + 0.09
    legend = Legend(entries, width - 2 * _BORDER, font_size)
    height = title_height + sum(heights) + _GAP * (len(heights) - 1) + legend.height + 0.10 + _BORDER / 2
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")

    style = {"fontsize": font_size, "parse_math": False}  # titles and names are text, also where they hold a "$"
    top = height - title_height
    for row, (images, name) in enumerate(zip(table, names, strict=True)):
        bottom = top - heights[row]
        if name:
            place = (_BORDER + (left - _BORDER) / 2 - 0.02) / width, (bottom + heights[row] / 2) / height
            name = shorten_text(name, heights[row], font_size)
            figure.text(*place, name, rotation=90, ha="center", va="center", **style)
        for column, (title, heading) in enumerate(zip(titles, headings, strict=True)):
            x = left + column * (panel_width + _GAP)
            if row == 0:
                place = (x + panel_width / 2) / width, (top + 0.06) / height
                figure.text(*place, "\n".join(heading), ha="center", va="baseline", linespacing=1.1, **style)
            if title in images:
                axes = figure.add_axes((x / width, bottom / height, panel_width / width, heights[row] / height))
                interpolation = "nearest" if title not in ("RGB", "SAR") else "antialiased"
                axes.imshow(images[title], interpolation=interpolation, aspect="auto")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(color="0.6", linewidth=0.4)  # else white classes would run into the page
        top = bottom - _GAP
    legend.draw(figure, _BORDER / 2)
    return figure
