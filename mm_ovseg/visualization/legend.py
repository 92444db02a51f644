"""The legend of a class map: swatches and names in centred lines, unseen names underlined."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mm_ovseg.visualization.underline import underline

__all__ = ["Legend", "LegendEntry", "break_text", "shorten_text", "text_width"]

_SWATCH_GAP, _ENTRY_GAP = 0.07, 0.26  # inches
_LINE, _SWATCH = 1.95, (1.73, 1.08)  # height of a line, and size of a swatch, as multiples of the font size
_ELLIPSIS = "…"


class LegendEntry(NamedTuple):
    """One class.

    Attributes:
        name: as written.
        color: (red, green, blue), 0..1; None for what is ignored, which is striped.
        is_unseen: whether the name is underlined.
    """

    name: str
    color: tuple[float, float, float] | None
    is_unseen: bool


class Legend:
    """Entries distributed over lines.

    Args:
        entries: the classes.
        available: inches of a line.
        font_size: in points.
    """

    def __init__(self, entries: Sequence[LegendEntry], available: float, font_size: float) -> None:
        self._font_size = font_size
        self._line_height = _LINE * font_size / 72
        self._swatch = tuple(side * font_size / 72 for side in _SWATCH)
        self._lines: list[list[tuple[float, LegendEntry]]] = [[]]  # (width of the entry in inches, entry)
        room = available - self._swatch[0] - _SWATCH_GAP
        used = 0.0
        for entry in entries:
            entry = entry._replace(name=shorten_text(entry.name, room, font_size))
            width = self._swatch[0] + _SWATCH_GAP + text_width(entry.name, font_size)
            if self._lines[-1] and used + _ENTRY_GAP + width > available:
                self._lines.append([])
                used = 0.0
            used += width + (_ENTRY_GAP if self._lines[-1] else 0.0)
            self._lines[-1].append((width, entry))

    @property
    def height(self) -> float:
        """Inches."""
        return len(self._lines) * self._line_height

    def draw(self, figure: Figure, bottom: float) -> None:
        """Draw it, its lower edge ``bottom`` inches above the page's."""
        for number, line in enumerate(self._lines):
            self._draw_line(figure, line, bottom + self.height - (number + 0.5) * self._line_height)

    def _draw_line(self, figure: Figure, line: Sequence[tuple[float, LegendEntry]], y: float) -> None:
        page_width, page_height = figure.get_size_inches()
        swatch_width, swatch_height = self._swatch
        x = (page_width - sum(width for width, _ in line) - _ENTRY_GAP * (len(line) - 1)) / 2
        for width, (name, color, is_unseen) in line:
            swatch = Rectangle(
                (x / page_width, (y - swatch_height / 2) / page_height),
                swatch_width / page_width,
                swatch_height / page_height,
                transform=figure.transFigure,
                facecolor="white" if color is None else color,
                edgecolor="0.35",
                linewidth=0.6,
                hatch="/////" if color is None else None,
            )
            figure.add_artist(swatch)
            text = figure.text(
                (x + swatch_width + _SWATCH_GAP) / page_width,
                (y - 0.36 * self._font_size / 72) / page_height,
                name,
                fontsize=self._font_size,
                va="baseline",
                parse_math=False,
            )
            if is_unseen:
                underline(text)
            x += width + _ENTRY_GAP


def break_text(text: str, available: float, font_size: float) -> list[str]:
    """Break a text into lines of at most ``available`` inches, between words; words that are longer are shortened."""
    lines: list[str] = []
    for word in text.split() or [""]:
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, font_size) <= available:
            lines[-1] = joined
        else:
            lines.append(shorten_text(word, available, font_size))
    return lines


def shorten_text(text: str, available: float, font_size: float) -> str:
    """A text with its middle left out where it is longer than ``available`` inches."""
    shortened = text
    for kept in range(len(text) - 1, 1, -1):
        if text_width(shortened, font_size) <= available:
            break
        shortened = text[: (kept + 1) // 2] + _ELLIPSIS + text[len(text) - kept // 2 :]
    return shortened


def text_width(text: str, font_size: float) -> float:
    """Inches that a text of one line takes, with ``font_size`` in points."""
    figure = Figure(figsize=(1, 1), dpi=200)
    drawn = figure.text(0, 0, text, fontsize=font_size, parse_math=False)
    return drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / figure.dpi
