"""The legend of a class map: swatches and names in centred lines, with the names of unseen classes underlined."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.visualization.typesetting import shorten_text, text_width, underline

__all__ = ["Legend"]

_SWATCH_GAP, _ENTRY_GAP = 0.07, 0.26  # inches
_LINE, _SWATCH = 1.95, (1.73, 1.08)  # line height and swatch size, as multiples of the font size


class Legend:
    """Legend entries, distributed over lines.

    Args:
        entries: the classes.
        available: width of a line in inches.
        font_size: in points.
    """

    def __init__(self, entries: Sequence[LegendEntry], available: float, font_size: float) -> None:
        self._font_size = font_size
        self._swatch = tuple(side * font_size / 72 for side in _SWATCH)
        self._lines: list[list[tuple[float, LegendEntry]]] = [[]]  # (width of the entry in inches, entry)
        beside = self._swatch[0] + _SWATCH_GAP
        used = 0.0
        for entry in entries:
            entry = entry._replace(name=shorten_text(entry.name, available - beside, font_size))
            width = beside + text_width(entry.name, font_size)
            if self._lines[-1] and used + _ENTRY_GAP + width > available:
                self._lines.append([])
                used = 0.0
            used += width + (_ENTRY_GAP if self._lines[-1] else 0.0)
            self._lines[-1].append((width, entry))

    @property
    def height(self) -> float:
        """Inches."""
        return len(self._lines) * _LINE * self._font_size / 72

    def draw(self, figure: Figure, bottom: float) -> None:
        """Draw the legend ``bottom`` inches above the bottom of the page."""
        width, height = self._swatch
        for number, line in enumerate(self._lines):
            y = bottom + self.height * (1 - (number + 0.5) / len(self._lines))
            x = (figure.get_figwidth() - sum(inches for inches, _ in line) - _ENTRY_GAP * (len(line) - 1)) / 2
            for inches, (name, color, unseen, _) in line:
                filling = (
                    {"facecolor": "white", "hatch": "/////"} if color is None else {"facecolor": np.divide(color, 255)}
                )
                frame = {"edgecolor": "0.35", "linewidth": 0.6, "transform": figure.dpi_scale_trans}
                figure.add_artist(Rectangle((x, y - height / 2), width, height, **filling, **frame))
                text = figure.text(
                    x + width + _SWATCH_GAP,
                    y - 0.36 * self._font_size / 72,
                    name,
                    transform=figure.dpi_scale_trans,
                    fontsize=self._font_size,
                    va="baseline",
                    parse_math=False,
                )
                if unseen:
                    underline(text)
                x += inches + _ENTRY_GAP
