"""Tables from spreadsheets: CSV files whose first line names the columns."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path

from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import read_text

__all__ = ["fault_of_name", "read_table"]

logger = logging.getLogger(__name__)

MAX_NAME_BYTES = 200  # file systems allow 255, and files named after an entry have longer names


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file in UTF-8, separated by commas.

    Args:
        path: the file. Lines without values and other columns are skipped.
        required, optional: names of columns in lower case; the file may use any case.

    Returns:
        Per line its number and a dict column -> value, stripped of white space.

    Raises:
        DataError: the file is missing, empty or not such a table.
    """
    known = (*required, *optional)
    reader = csv.reader(io.StringIO(read_text(path)), strict=True)
    try:
        rows = [(reader.line_num, [value.strip() for value in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file ({error}); save it as one.") from error
    if not rows:
        raise DataError(f"{path} is empty; its first line must name the columns: {', '.join(known)}.")
    (_, header), *rows = rows
    columns = [column.casefold() for column in header]
    if missing := [column for column in required if column not in columns]:
        raise DataError(
            f"{path} has no column '{missing[0]}'; its first line is '{','.join(header)}', and must name "
            f"{' and '.join(required)}, separated by commas."
        )
    if repeated := [column for column in known if columns.count(column) > 1]:
        raise DataError(f"{path} has two columns '{repeated[0]}'; keep one.")
    if unused := [column for column in columns if column not in known]:
        logger.info("Ignored columns of %s: %s.", path, ", ".join(unused))
    for line, row in rows:
        if len(row) != len(columns):
            raise DataError(
                f"{path}, line {line}: there are {len(row)} values for {len(columns)} columns; add what is missing, "
                "and put values that contain a comma in quotes."
            )
    return [(line, dict(zip(columns, row, strict=True))) for line, row in rows]


def fault_of_name(name: str) -> str | None:
    """Why a name is unsafe for files in a given folder, or in a table that spreadsheets open.

    Returns:
        The end of a sentence about the name; None if it is safe.
    """
    if not (name[:1].isalnum() or name[:1] == "_"):
        return "does not begin with a letter or a digit"  # ".hidden", or "=1+1", which a spreadsheet would evaluate
    if any(character in "/\\" or not character.isprintable() for character in name):
        return "contains a character that is not allowed in file names"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return None
