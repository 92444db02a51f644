"""The list of an archive's scenes: a CSV file with one scene a line."""

import csv
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.errors import DataError

__all__ = ["SEPARATOR", "ArchiveScene", "read_manifest"]

logger = logging.getLogger(__name__)

REQUIRED = ("rgb", "sar")
COLUMNS = (*REQUIRED, "name", "aoi")
SEPARATOR = ";"  # of several RGB files
LONGEST_NAME = 200  # bytes; file systems allow 255, and the files of a scene have longer names than its map
COMPANIONS = ("_coverage", "_confidence", "_probabilities")  # what stands beside NAME.tif


@dataclass(frozen=True)
class ArchiveScene:
    """A scene of an archive. Whether its files exist is known only when their turn comes.

    Attributes:
        name: of the map, without suffix; no two scenes share one.
        rgb: one file, or three of one band each, red, green and blue.
        sar: the file; None for RGB alone.
        area: a GeoJSON file with the polygons to map; None where the manifest gives none.
    """

    name: str
    rgb: tuple[Path, ...]
    sar: Path | None = None
    area: Path | None = None


def read_manifest(path: str | os.PathLike) -> list[ArchiveScene]:
    """Read the scenes of a manifest.

    Its first line names the columns: ``rgb``, one file or three parted by ``;``; ``sar``, which may be empty; and, if
    wanted, ``name``, by default the stem of the (first) RGB file, and ``aoi``. Other columns are left alone. Paths are
    relative to the manifest's folder. Lines without any value are passed over.

    Args:
        path: a CSV file in UTF-8, values parted by commas.

    Returns:
        At least one scene, in the file's order.

    Raises:
        DataError: the file is missing, empty or no such table; a name repeats, could lead out of a folder, or is that
            of another scene's file.
    """
    path = Path(path)
    scenes: list[ArchiveScene] = []
    lines: dict[str, int] = {}  # folded name -> line
    for line, row in _read_rows(path):
        scene = _read_scene(path, line, row)
        folded = scene.name.casefold()  # some file systems take "A.tif" and "a.tif" for one file
        if folded in lines:
            raise DataError(
                f"{path}, lines {lines[folded]} and {line}: both scenes are named '{scene.name}'; give them different "
                "names in a column 'name'."
            )
        lines[folded] = line
        scenes.append(scene)
    if not scenes:
        raise DataError(f"{path} lists no scene; give one a line, below the line that names the columns.")
    for name, line in lines.items():
        for ending in COMPANIONS:
            if name.endswith(ending) and name.removesuffix(ending) in lines:
                raise DataError(
                    f"{path}, lines {lines[name.removesuffix(ending)]} and {line}: '{name}' is also what a file beside "
                    "the other scene's map is called; give one of them another name."
                )
    return scenes


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and column -> value, both without white space around them, of all lines that hold a value."""
    try:
        # Spreadsheets write a byte order mark.
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, [value.strip() for value in row]) for row in reader if any(map(str.strip, row))]
    except OSError as error:
        raise DataError(f"The manifest {path} cannot be read ({error.strerror}); check its name.") from error
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"The manifest {path} is no CSV file in UTF-8 ({error}); save it as one.") from error
    if not rows:
        raise DataError(f"The manifest {path} is empty; its first line is to name the columns: {', '.join(COLUMNS)}.")
    (_, header), *rows = rows
    columns = [column.casefold() for column in header]
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        raise DataError(
            f"The manifest {path} has no column '{missing[0]}'; its first line is '{','.join(header)}', and is to name "
            f"{' and '.join(REQUIRED)}, parted by commas."
        )
    if repeated := [column for column in COLUMNS if columns.count(column) > 1]:
        raise DataError(f"The manifest {path} has two columns '{repeated[0]}'; keep one.")
    if unused := [column for column in columns if column not in COLUMNS]:
        logger.info("Columns of %s that mean nothing here: %s.", path, ", ".join(unused))
    for line, row in rows:
        if len(row) != len(columns):
            raise DataError(
                f"{path}, line {line}: there are {len(row)} values for {len(columns)} columns; add what is missing, "
                "and put values that hold a comma in quotes."
            )
    return [(line, dict(zip(columns, row, strict=True))) for line, row in rows]


def _read_scene(path: Path, line: int, row: Mapping[str, str]) -> ArchiveScene:
    rgb = [part.strip() for part in row["rgb"].split(SEPARATOR) if part.strip()]
    if not rgb:
        raise DataError(f"{path}, line {line}: the column 'rgb' is empty; name the RGB file there.")
    if len(rgb) not in (1, 3):
        raise DataError(f"{path}, line {line}: 'rgb' names {len(rgb)} files; give one, or three as 'red;green;blue'.")
    name = row.get("name") or Path(rgb[0]).stem
    if fault := _fault(name):
        raise DataError(f"{path}, line {line}: the name '{name}' {fault}; give another in the column 'name'.")
    sar, area = (path.parent / row[column] if row.get(column) else None for column in ("sar", "aoi"))
    return ArchiveScene(name, tuple(path.parent / part for part in rgb), sar, area)


def _fault(name: str) -> str | None:
    """What makes a name unfit for files that are to stay in their folder, and for a table that spreadsheets open."""
    if not (name[:1].isalnum() or name[:1] == "_"):
        return "does not begin with a letter or a digit"  # ".hidden", and "=1+1", which a spreadsheet would compute
    if any(character in "/\\" or not character.isprintable() for character in name):
        return "holds a character that file names cannot"
    if len(name.encode()) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} bytes"
    return None
