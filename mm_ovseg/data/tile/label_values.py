"""The meaning of the values of a label raster or of an attribute of polygons."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from numbers import Real
from pathlib import Path

import numpy as np

from mm_ovseg.decision import MAX_CLASSES
from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import parse_table, read_text
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["IGNORED", "Legend", "legend_of_values", "parse_legend", "read_legend", "value_text"]

IGNORED = 255
NO_LABEL = "ignore"  # in place of a class name, like null
WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,20}(\.0*)?")
NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Legend:
    """The meaning of label values.

    Attributes:
        classes: Names, in the order of their indices.
        entries: (value as written, class index or :data:`IGNORED`).
        source: Origin of the table, for messages.
    """

    classes: tuple[str, ...]
    entries: tuple[tuple[str, int], ...]
    source: str = field(default="The table of labels", compare=False)

    @cached_property
    def table(self) -> dict[str, int]:
        """Value as written -> class index or :data:`IGNORED`."""
        return dict(self.entries)

    @cached_property
    def raster_table(self) -> dict[int, int]:
        """Value of a label raster -> class index or :data:`IGNORED`; "010" is 10, and "2.0" is 2.

        Raises:
            DataError: A value is not an integer, or two values are equal.
        """
        table: dict[int, int] = {}
        for text, index in self.entries:
            if not WHOLE_NUMBER.fullmatch(text):
                raise DataError(f"{self.source} has the value '{text}'; the values of a label raster are integers.")
            value = int(text.partition(".")[0])
            if value in table:
                raise DataError(f"{self.source} has the value {value} twice; keep it once.")
            table[value] = index
        return table

    def index_of(self, value: object) -> int | None:
        """The class index of an attribute's value, :data:`IGNORED`, or None if the table does not have it.

        Strings are compared as written, numbers as numbers: 3 and 3.0 match "3", "03" and "3.0".

        Raises:
            DataError: Values of several classes are the same number.
        """
        if isinstance(value, bool):
            return self.table.get(str(value), self.table.get(str(value).lower()))
        if not isinstance(value, Real):
            return self.table.get(value_text(value))
        if value != value:  # NaN, which stands for a missing value in a column of numbers
            return self.table.get("")
        indices = self._numbers.get(Decimal(str(value)), {})
        if len(set(indices.values())) > 1:
            raise DataError(
                f"{self.source} gives {' and '.join(indices)}, which are the same number, for different classes."
            )
        return next(iter(indices.values()), None)

    @cached_property
    def _numbers(self) -> dict[Decimal, dict[str, int]]:
        """Number -> value as written -> class index."""
        numbers: dict[Decimal, dict[str, int]] = {}
        for text, index in self.entries:
            if NUMBER.fullmatch(text):
                numbers.setdefault(Decimal(text), {})[text] = index
        return numbers


def read_legend(path: Path, classes: Sequence[str] | None = None) -> Legend:
    """Read ``value: class name`` lines, or a JSON object. All values and names are strings, even ``yes`` or ``010``.

    ``null`` or ``ignore`` in place of a name means no label.

    Args:
        path: The file.
        classes: The classes in order; None for the order of first mention in the file.

    Raises:
        DataError: The file cannot be read, is not such a table, has a value twice, or names a class that is not in
            ``classes``.
        VocabularyError: A name is empty, or two names differ only in case.
    """
    try:
        meanings = parse_table(read_text(path))
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read ({' '.join(str(error).split())}); it must consist of 'value: class' lines."
        ) from error
    return _legend(meanings, classes, str(path))


def parse_legend(text: str, classes: Sequence[str] | None = None, *, source: str) -> Legend:
    """Read a table from a command line, such as ``"0: land, 1: water, -1: ignore"``.

    With a semicolon between the entries, as in ``"1: river, lake; 2: road"``, commas separate the synonyms of a class.

    Args:
        text: The table.
        classes: See :func:`read_legend`.
        source: Its name, for messages.

    Raises:
        DataError, VocabularyError: See :func:`read_legend`.
    """
    parts = [part for part in text.split(";" if ";" in text else ",") if part.strip()]
    if not parts or not all(":" in part for part in parts):
        raise DataError(f"{source} is '{text}'; write 'value: class name' for each value, separated by commas.")
    entries = [tuple(side.strip() for side in part.split(":", 1)) for part in parts]
    meanings = {value: None if name in ("", "null") else name for value, name in entries}
    if len(meanings) < len(entries):
        raise DataError(f"{source} has a value twice in '{text}'; keep it once.")
    return _legend(meanings, classes, source)


def legend_of_values(values: Iterable[str]) -> Legend:
    """A class for every value except "", in alphabetical order; raises the errors of :func:`read_legend`."""
    classes = _checked(validate_class_names(sorted(set(values) - {""})))
    return Legend(classes, tuple((name, index) for index, name in enumerate(classes)))


def value_text(value: object) -> str:
    """A value as users write it: 3.0 is "3", and no value (None, NaN) is ""."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def _legend(meanings: Mapping[str, str | None], classes: Sequence[str] | None, source: str) -> Legend:
    meanings = {value: None if name == NO_LABEL else name for value, name in meanings.items()}
    named = [name for name in meanings.values() if name is not None]
    classes = validate_class_names(list(dict.fromkeys(named)) if classes is None else classes)
    index_of = {name.casefold(): index for index, name in enumerate(classes)}
    for value, name in meanings.items():
        if name is not None and _folded(name) not in index_of:
            raise DataError(
                f"{source}: '{value}' stands for '{name}', which is not one of the classes {', '.join(classes)}."
            )
    entries = ((value, IGNORED if name is None else index_of[_folded(name)]) for value, name in meanings.items())
    return Legend(_checked(classes), tuple(entries), source)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split()).casefold()


def _checked(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(classes) > MAX_CLASSES:
        raise DataError(f"There would be {len(classes)} classes; merge values with --label-map.")
    return classes
