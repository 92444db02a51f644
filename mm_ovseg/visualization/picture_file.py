"""Laying a figure out in inches, and writing it for screen or print."""

import os
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file

__all__ = ["PRINT_DPI", "PRINT_FONT_SIZE", "PRINT_WIDTH", "add_panel", "check_picture_name", "write_figure"]

FILE_TYPES = ("png", "jpg", "pdf", "svg")
# No dates, so that the same command writes the same bytes.
METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
# Publishers reject matplotlib's default Type 3 fonts; text in SVG stays text.
SETTINGS = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "mm_ovseg"}

PRINT_WIDTH = 6.9  # inches; the text width of a two-column page
PRINT_DPI = 300
PRINT_FONT_SIZE = 8  # points; journals require at least 7


def add_panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes without ticks, with a thin frame, positioned in inches."""
    page_width, page_height = figure.get_size_inches()
    place = (left / page_width, bottom / page_height, width / page_width, height / page_height)
    axes = figure.add_axes(place, xticks=[], yticks=[])
    axes.spines[:].set(color="0.6", linewidth=0.4)  # otherwise white images would merge with the page
    return axes


def check_picture_name(path: str | os.PathLike) -> Path:
    """Check the path of a picture.

    Raises:
        DataError: the file type is unknown.
    """
    path = Path(path)
    if path.suffix[1:].lower() not in FILE_TYPES:
        raise DataError(f"{path} is not a picture; give a name that ends in .{', .'.join(FILE_TYPES)}.")
    return path


def write_figure(path: str | os.PathLike, figure: Figure, **arguments: Any) -> None:
    """Write a figure as PNG, JPEG, PDF or SVG, depending on the file name.

    Args:
        path: the file; missing folders are made.
        figure: the figure.
        arguments: arguments of :meth:`matplotlib.figure.Figure.savefig`.

    Raises:
        DataError: the file type is unknown, or the file cannot be written.
    """
    path = check_picture_name(path)
    file_type = path.suffix[1:].lower()
    with complete_file(path) as temporary, rc_context(SETTINGS):
        figure.savefig(temporary, format=file_type, metadata=METADATA.get(file_type), **arguments)
