"""Text in figures: fitted to a width, and underlined, which matplotlib lacks."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text

__all__ = ["break_text", "shorten_text", "text_width", "underline"]

_UNDERLINE_GAP = 0.05  # between text and line, as a share of the font size


def break_text(text: str, available: float, font_size: float) -> list[str]:
    """Break a text between words into lines of at most ``available`` inches; longer words are shortened."""
    lines: list[str] = []
    for word in text.split() or [""]:
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, font_size) <= available:
            lines[-1] = joined
        else:
            lines.append(shorten_text(word, available, font_size))
    return lines


def shorten_text(text: str, available: float, font_size: float) -> str:
    """A text, with its middle replaced by an ellipsis if it is longer than ``available`` inches."""
    shortened = text
    for kept in range(len(text) - 1, 1, -1):
        if text_width(shortened, font_size) <= available:
            break
        shortened = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
    return shortened


def text_width(text: str, font_size: float) -> float:
    """Width of a line of text in inches, with ``font_size`` in points."""
    figure = Figure(figsize=(1, 1), dpi=200)
    drawn = figure.text(0, 0, text, fontsize=font_size, parse_math=False)
    return drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / figure.dpi


def underline(text: Text) -> None:
    """Draw a line under a text of a figure or axes, in its colour; it moves and rotates with the text."""

    # The lower side of the box that matplotlib can draw around a text.
    def lower_side(x: float, y: float, width: float, height: float, mutation_size: float) -> Path:
        level = y - _UNDERLINE_GAP * mutation_size
        return Path([(x, level), (x + width, level)])

    text.set_bbox({"boxstyle": lower_side, "facecolor": "none", "edgecolor": text.get_color(), "linewidth": 0.9})
