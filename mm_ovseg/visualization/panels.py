"""The figure of results: RGB, SAR, ground truth and predictions side by side, one pair per row, and a legend.

draw_panels("maps.png", [PanelRow(rgb, sar, label, {"MM-OVSeg": prediction})], classes=..., colors=..., unseen=...)
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from mm_ovseg.data.palette import LegendEntry, RGBColor, class_legend
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS
from mm_ovseg.errors import DataError
from mm_ovseg.visualization.legend import Legend
from mm_ovseg.visualization.picture_file import PRINT_DPI, PRINT_FONT_SIZE, add_panel, write_figure
from mm_ovseg.visualization.typesetting import break_text, shorten_text

__all__ = ["IMAGE_TITLES", "PanelRow", "draw_panels"]

GROUND_TRUTH = "Ground truth"
IMAGE_TITLES = ("RGB", "SAR", GROUND_TRUTH)  # of the columns before the predictions
# With more classes, the legend only shows those that occur in the figure.
MAX_CLASSES_IN_LEGEND = 24

_FONT_SIZE, _DPI = 10, 200  # without a page width
_PANEL_WIDTH, _GAP, _BORDER = 2.4, 0.06, 0.08  # inches, like all lengths of the layout
_MIN_PANEL_WIDTH = 0.5
_ASPECT_LIMITS = (0.1, 4.0)  # height / width of a panel; longer images are distorted


@dataclass(frozen=True)
class PanelRow:
    """One pair and its maps.

    Attributes:
        rgb: (H, W, 3) uint8; None for SAR alone.
        sar: (H, W) or (H, W, 3), 0..255; None for RGB alone.
        label: (H, W) class indices, 254 for none of the classes, 255 where ignored; None for an unlabelled pair.
        predictions: Title -> (H, W) class indices, 254 for none of the classes, 255 for no data.
        name: Text to the left of the row.
    """

    rgb: np.ndarray | None
    sar: np.ndarray | None
    label: np.ndarray | None = None
    predictions: Mapping[str, np.ndarray] = field(default_factory=dict)
    name: str = ""

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """Title -> class map: the label, if any, and the predictions."""
        return ({} if self.label is None else {GROUND_TRUTH: self.label}) | dict(self.predictions)


def draw_panels(
    path: str | os.PathLike,
    rows: Sequence[PanelRow],
    *,
    classes: Sequence[str],
    colors: Sequence[Sequence[int]] | None,
    unseen: Sequence[str] = (),
    page_width: float | None = None,
    dpi: float | None = None,
) -> None:
    """Draw the figure and write it.

    Columns are RGB, SAR and the ground truth (if any row has them), and every prediction title in order of appearance.
    Ignored and nodata pixels are white with grey stripes, pixels of none of the classes are grey. The names of unseen
    classes are underlined in the legend.

    Args:
        path: The file, .png, .jpg, .pdf or .svg; missing folders are made.
        rows: The pairs; at least one.
        classes: Class names.
        colors: (red, green, blue) of each class, 0..255; None for the default ones.
        unseen: Those of ``classes`` to underline.
        page_width: Inches, for print: panels fill the page, and all text is 8 points high. None: panels are 2.4 inches
            wide, and the page is as wide as necessary.
        dpi: Pixels per inch of raster images; None: 200, or 300 with ``page_width``.

    Raises:
        DataError: No row is given, the arrays of a row differ in size, a map holds a value that is not a class, the
            panels do not fit the page, or the file cannot be written.
        VocabularyError: The numbers of colours and classes differ.
    """
    if not rows:
        raise DataError(f"There is nothing to draw in {path}; give at least one pair.")
    in_labels = _values_in(row.label for row in rows if row.label is not None)
    in_predictions = _values_in(class_map for row in rows for class_map in row.predictions.values())
    occurring = in_labels | in_predictions
    entries = class_legend(classes, colors, unseen, has_none=NONE_CLASS in occurring, owner=str(path))
    palette = {entry.value: entry.color for entry in entries}
    table = [_row_images(row, number, palette) for number, row in enumerate(rows, start=1)]
    titles = [title for title in IMAGE_TITLES if any(title in images for images in table)]
    titles += dict.fromkeys(title for images in table for title in images if title not in IMAGE_TITLES)
    if len(classes) > MAX_CLASSES_IN_LEGEND:
        entries = tuple(entry for entry in entries if entry.value in occurring)
    striped = [name for name, values in (("ignored", in_labels), ("no data", in_predictions)) if NODATA_CLASS in values]
    if striped:
        entries += (LegendEntry(" or ".join(striped), None, unseen=False, value=NODATA_CLASS),)
    figure = _compose(table, titles, [row.name for row in rows], entries, page_width)
    write_figure(path, figure, dpi=dpi or "figure")


def _values_in(maps: Iterable[np.ndarray]) -> set[int]:
    return set().union(*(np.unique(class_map).tolist() for class_map in maps))


def _row_images(row: PanelRow, number: int, palette: Mapping[int, RGBColor]) -> dict[str, np.ndarray]:
    """Title -> (H, W, 3) uint8 of one row."""
    images = {} if row.rgb is None else {"RGB": row.rgb}
    if row.sar is not None:
        sar = row.sar if row.sar.ndim == 3 else np.dstack([row.sar] * 3)
        images["SAR"] = np.clip(sar, 0, 255).astype(np.uint8)
    which = f"row {number}" + (f" ({row.name})" if row.name else "")
    colors = np.zeros((256, 3), np.uint8)
    for value, color in palette.items():
        colors[value] = color
    for title, class_map in row.maps.items():
        if len(bad := np.setdiff1d(class_map, [*palette, NODATA_CLASS])):
            count = len(palette.keys() - {NONE_CLASS})
            raise DataError(
                f"'{title}' in {which} holds the value {bad[0]}, which is not a class; there are {count} classes, "
                f"{NONE_CLASS} means none of them, and {NODATA_CLASS} ignored."
            )
        colored = colors[class_map.astype(int)]
        images[title] = np.where((class_map == NODATA_CLASS)[..., None], _stripes(class_map.shape), colored)
    (first, size), *others = ((title, image.shape[:2]) for title, image in images.items())
    for title, other in others:
        if other != size:
            raise DataError(f"'{title}' in {which} has the size {other}, its {first} image {size}; they must be equal.")
    return images


def _stripes(shape: tuple[int, int]) -> np.ndarray:
    """White with thin grey diagonals, about 24 at any resolution."""
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
    """Lay out the panels on a page of ``page_width``, or of the necessary width."""
    font_size, dpi = (_FONT_SIZE, _DPI) if page_width is None else (PRINT_FONT_SIZE, PRINT_DPI)
    line_height = 1.25 * font_size / 72
    left = _BORDER + (1.7 * font_size / 72 if any(names) else 0.0)
    panel_width = _PANEL_WIDTH
    width = left + len(titles) * (panel_width + _GAP) - _GAP + _BORDER
    if page_width is not None:
        panel_width += (page_width - width) / len(titles)
        width = page_width
        if panel_width < _MIN_PANEL_WIDTH:
            raise DataError(
                f"{len(titles)} columns ({', '.join(titles)}) do not fit a page of {page_width:g} inches; draw fewer, "
                "or make the page wider."
            )
    shapes = [next(iter(images.values())).shape for images in table]
    heights = [panel_width * float(np.clip(shape[0] / shape[1], *_ASPECT_LIMITS)) for shape in shapes]
    headings = [break_text(title, panel_width, font_size) for title in titles]
    title_height = max(map(len, headings)) * line_height + 0.09
    legend = Legend(entries, width - 2 * _BORDER, font_size)
    height = title_height + sum(heights) + _GAP * (len(heights) - 1) + legend.height + 0.10 + _BORDER / 2
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")

    # Titles and names are text, even if they contain a "$".
    style = {"fontsize": font_size, "parse_math": False, "transform": figure.dpi_scale_trans}
    top = height - title_height
    for row, (images, name) in enumerate(zip(table, names, strict=True)):
        bottom = top - heights[row]
        if name:
            x = _BORDER + (left - _BORDER) / 2 - 0.02
            name = shorten_text(name, heights[row], font_size)
            figure.text(x, bottom + heights[row] / 2, name, rotation=90, ha="center", va="center", **style)
        for column, (title, heading) in enumerate(zip(titles, headings, strict=True)):
            x = left + column * (panel_width + _GAP)
            if row == 0:
                place = x + panel_width / 2, top + 0.06
                figure.text(*place, "\n".join(heading), ha="center", va="baseline", linespacing=1.1, **style)
            if title in images:
                axes = add_panel(figure, x, bottom, panel_width, heights[row])
                interpolation = "nearest" if title not in ("RGB", "SAR") else "antialiased"
                axes.imshow(images[title], interpolation=interpolation, aspect="auto")
        top = bottom - _GAP
    legend.draw(figure, _BORDER / 2)
    return figure
