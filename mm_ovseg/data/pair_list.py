"""A list of single pairs, kept in a CSV file."""

import os
from pathlib import Path

from mm_ovseg.csv_table import read_table
from mm_ovseg.errors import DataError

__all__ = ["read_pair_list"]

COLUMNS = {"rgb": "file_name", "sar": "sar_file_name", "label": "sem_seg_file_name"}


def read_pair_list(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read pairs, which no dataset need declare.

    The first line names the columns: ``rgb`` and ``sar``; and, if wanted, ``label``, which may be empty, and ``name``,
    by default the RGB file's stem. Paths are relative to the list's folder.

    Args:
        path: a CSV file in UTF-8, values separated by commas.

    Returns:
        At least one dataset dict with ``file_name``, ``sar_file_name``, ``image_id`` and, where there is a label,
        ``sem_seg_file_name``, in the file's order.

    Raises:
        DataError: the file is missing, empty or no such table, or a line lacks a file name.
    """
    path = Path(path)
    pairs = []
    for line, row in read_table(path, required=("rgb", "sar"), optional=("label", "name")):
        if empty := [column for column in ("rgb", "sar") if not row[column]]:
            raise DataError(f"{path}, line {line}: the column '{empty[0]}' is empty; name the file there.")
        pair = {key: str(path.parent / row[column]) for column, key in COLUMNS.items() if row.get(column)}
        pairs.append(pair | {"image_id": row.get("name") or Path(row["rgb"]).stem})
    if not pairs:
        raise DataError(f"{path} lists no pair; give one a line, below the line that names the columns.")
    return pairs
