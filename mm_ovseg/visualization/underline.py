"""Underlined text, which matplotlib lacks."""

from matplotlib.path import Path
from matplotlib.text import Text

__all__ = ["underline"]

_GAP = 0.05  # between text and line, as a share of the font size


def underline(text: Text, *, linewidth: float = 0.9) -> None:
    """Draw a line under a text, in its colour; it moves and turns with the text.

    Args:
        text: A text of a figure or of axes, tick labels included.
        linewidth: Of the line, in points.
    """
    # Of the box that matplotlib can draw around a text, only the lower side.
    text.set_bbox({"boxstyle": _lower_side, "facecolor": "none", "edgecolor": text.get_color(), "linewidth": linewidth})


def _lower_side(x: float, y: float, width: float, height: float, mutation_size: float) -> Path:
    """A box style: from a text's box (lower left corner, width, height) and font size to the path to draw."""
    level = y - _GAP * mutation_size
    return Path([(x, level), (x + width, level)])
