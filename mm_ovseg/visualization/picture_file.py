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
# Neither says when it was written: the same command gives the same bytes.
METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
# Publishers refuse matplotlib's usual Type 3 fonts; text of an SVG stays text.
SETTINGS = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "mm_ovseg"}

PRINT_WIDTH = 6.9  # inches: the text of a page of two columns
PRINT_DPI = 300
PRINT_FONT_SIZE = 8  # points; journals ask for 7 at least


def add_panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes without ticks, with a thin frame, at a place in inches."""
    page_width, page_height = figure.get_size_inches()
    place = (left / page_width, bottom / page_height, width / page_width, height / page_height)
    axes = figure.add_axes(place, xticks=[], yticks=[])
    axes.spines[:].set(color="0.6", linewidth=0.4)  # else white images would run into the page
    return axes


def check_picture_name(path: str | os.PathLike) -> Path:
    """A picture's path.

    Raises:
        DataError: its name ends in no known file type.
    """
    path = Path(path)
    if path.suffix[1:].lower() not in FILE_TYPES:
        raise DataError(f"{path} is not a picture; give a name that ends in .{', .'.join(FILE_TYPES)}.")
    return path


def write_figure(path: str | os.PathLike, figure: Figure, **arguments: Any) -> None:
    """Write a figure as PNG, JPEG, PDF or SVG, as the file's name says.

    Args:
        path: the file; missing folders are made.
        figure: what to write.
        arguments: of :meth:`matplotlib.figure.Figure.savefig`.

    Raises:
        DataError: the name ends in no known file type, or the file cannot be written.
    """
    path = check_picture_name(path)
    file_type = path.suffix[1:].lower()
    with complete_file(path) as temporary, rc_context(SETTINGS):
        figure.savefig(temporary, format=file_type, metadata=METADATA.get(file_type), **arguments)
