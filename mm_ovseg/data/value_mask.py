"""Masks of any raster: some of its values mean something, such as cloud; read window by window on another grid."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np

from mm_ovseg.errors import DataError
from mm_ovseg.raster import LabelReader, Placement, RasterSource

__all__ = ["ValueMask", "shown_values"]

ROWS_AT_ONCE = 512
VALUES_SHOWN = 5


class ValueMask:
    """A raster of which some values mean one thing, on the grid of a scene or a map; a context manager.

    Of a raster on another grid, the nearest pixel counts, or the mode if the grid's pixels are larger. Where the raster
    has no data, and outside of it, it does not mean it. Subclasses say, for messages, what it means.

    Args:
        path: a raster with one band of whole numbers.
        place: gives its placement on the grid.
        values: the values that mean it; None: the only one besides 0.
        any_format: see :func:`mm_ovseg.raster.open_raster`.

    Attributes:
        name: the file.
        covered: share of the grid that the extent of the raster covers, 0..1.

    Raises:
        DataError: the file cannot be read or put on the grid, is elsewhere, or has other values.
    """

    kind: str  # of raster
    whole: str  # what has the grid
    meaning: str
    otherwise: str  # what the rest means
    option: str  # that names the values
    hint = ""  # about them

    def __init__(
        self,
        path: str | os.PathLike,
        place: Callable[[RasterSource], Placement],
        values: Sequence[int] | None = None,
        *,
        any_format: bool = False,
    ) -> None:
        self._source = RasterSource(path, any_format=any_format)
        self.name = self._source.name
        try:
            self._placement = place(self._source)
            self.covered = self._placement.covered
            if not self.covered:
                raise DataError(f"The {self.kind} {path} is outside the {self.whole}; give that of this {self.whole}.")
            found = self._found_values()
            meant = self._meant_values(found, values)
        except BaseException:
            self.close()
            raise
        self._reader = self._label_reader(meant)
        self._missing = [] if set(meant) & set(found) else meant

    def __enter__(self) -> "ValueMask":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def concerns(self, *, values_are_certain: bool = False) -> list[str]:
        """Warnings about the file, as sentences; none about absent values if they certainly are the right ones."""
        concerns = []
        if self._missing and not values_are_certain:
            concerns.append(
                f"The {self.kind} {self.name} has none of the values that mean {self.meaning} "
                f"({shown_values(self._missing)}), so all of it counts as {self.otherwise}; if that is wrong, correct "
                f"{self.option}."
            )
        if self.covered < 1:
            concerns.append(
                f"The {self.kind} {self.name} covers {self.covered:.0%} of the {self.whole}; the rest counts as "
                f"{self.otherwise}."
            )
        return concerns

    def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read a window: bool (height, width), True for the values that mean it; False beyond the end of the grid.

        Raises:
            DataError: a block of the file cannot be read.
        """
        rows, columns = self._placement.target.shape
        inside = (min(height, rows - row), min(width, columns - column))
        meant, _ = self._reader.read_onto(self._source, self._placement, (row, column, *inside))
        return np.pad(meant > 0, ((0, height - inside[0]), (0, width - inside[1])))

    def _meant_values(self, found: Counter[int], values: Sequence[int] | None) -> Collection[int]:
        if values is not None:
            return values
        others = sorted(value for value in found if value)
        if len(others) > 1:
            raise DataError(
                f"{self.name} has the values {shown_values(others)} besides 0, of which not all may mean "
                f"{self.meaning}; name those that do with {self.option}{self.hint}."
            )
        return others

    def _label_reader(self, meant: Collection[int]) -> LabelReader:
        return LabelReader(dict.fromkeys(meant, 1), ignore_label=0, kind=self.kind)

    def _found_values(self) -> Counter[int]:
        """The values of the raster, where it has data, and their pixels."""
        reader, found = self._label_reader(()), Counter()
        height, width = self._source.grid.shape
        for row in range(0, height, ROWS_AT_ONCE):
            found += reader.read(self._source, (row, 0, min(ROWS_AT_ONCE, height - row), width))[1]
        return found


def shown_values(values: Sequence[int]) -> str:
    """The first of some values, for messages."""
    return ", ".join(map(str, values[:VALUES_SHOWN])) + (", ..." if len(values) > VALUES_SHOWN else "")
