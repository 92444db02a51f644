"""Scenes with labels, as a list names them."""

from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.csv_table import fault_of_name, read_table
from mm_ovseg.errors import DataError

__all__ = ["LabelledScene", "read_scenes"]

SEPARATOR = ";"  # of several files that form the bands of one image


@dataclass(frozen=True)
class LabelledScene:
    """Files of one scene.

    Attributes:
        name: start of its tiles' names.
        rgb: one file, or several whose bands follow each other, such as red, green and blue.
        sar: the same, on any grid.
        labels: a raster on any grid, or polygons.
    """

    name: str
    rgb: tuple[Path, ...]
    sar: tuple[Path, ...]
    labels: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.rgb, *self.sar, self.labels)


def read_scenes(path: Path) -> list[LabelledScene]:
    """Read a list: a CSV file with the columns ``rgb`` (or ``red;green;blue``), ``sar``, ``labels``, maybe ``name``.

    SAR may also be several files, ``vv;vh``. Paths are relative to the list's folder; the name is by default the stem
    of the (first) RGB file.

    Raises:
        DataError: the file is missing or no such table, a value is missing, or a name repeats or is unfit for a file.
    """
    scenes: dict[str, LabelledScene] = {}
    for line, row in read_table(path, required=("rgb", "sar", "labels"), optional=("name",)):
        if empty := [column for column in ("rgb", "sar", "labels") if not row[column]]:
            raise DataError(f"{path}, line {line}: the column '{empty[0]}' is empty; name the file there.")
        rgb, sar = (
            tuple(path.parent / part.strip() for part in row[column].split(SEPARATOR) if part.strip())
            for column in ("rgb", "sar")
        )
        name = row.get("name") or rgb[0].stem
        if fault := fault_of_name(name):
            raise DataError(f"{path}, line {line}: the name '{name}' {fault}; give another in the column 'name'.")
        if name.casefold() in scenes:
            raise DataError(f"{path}, line {line}: a scene before is named '{name}' too; give a column 'name'.")
        scenes[name.casefold()] = LabelledScene(name, rgb, sar, path.parent / row["labels"])
    if not scenes:
        raise DataError(f"{path} lists no scene; give one a line, below the line that names the columns.")
    return list(scenes.values())
