"""The list of an archive's scenes: a CSV file with one scene a line."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.csv_table import fault_of_name, read_table
from mm_ovseg.errors import DataError

__all__ = ["SEPARATOR", "ArchiveScene", "read_manifest"]

SEPARATOR = ";"  # of several files that form the bands of one image
COMPANIONS = ("_coverage", "_confidence", "_probabilities")  # what stands beside NAME.tif


@dataclass(frozen=True)
class ArchiveScene:
    """A scene of an archive. Whether its files exist is known only when their turn comes.

    Attributes:
        name: of the map, without suffix; no two scenes share one.
        rgb: one file, or several whose bands follow each other, such as red, green and blue.
        sar: the same; none for RGB alone.
        area: a vector file with the polygons to map; None where the manifest gives none.
    """

    name: str
    rgb: tuple[Path, ...]
    sar: tuple[Path, ...] = ()
    area: Path | None = None


def read_manifest(path: str | os.PathLike) -> list[ArchiveScene]:
    """Read the scenes of a manifest.

    Its first line names the columns: ``rgb``, one file or several separated by ``;``; ``sar``, the same, which may be
    empty; and, if wanted, ``name``, by default the stem of the (first) RGB file, and ``aoi``. Other columns are left
    alone. Paths are relative to the manifest's folder. Lines without any value are passed over.

    Args:
        path: a CSV file in UTF-8, values separated by commas.

    Returns:
        At least one scene, in the file's order.

    Raises:
        DataError: the file is missing, empty or not such a table; a name repeats, could lead out of a folder, or is
            that of another scene's file.
    """
    path = Path(path)
    scenes: list[ArchiveScene] = []
    lines: dict[str, int] = {}  # folded name -> line
    for line, row in read_table(path, required=("rgb", "sar"), optional=("name", "aoi")):
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


def _read_scene(path: Path, line: int, row: Mapping[str, str]) -> ArchiveScene:
    rgb, sar = (
        tuple(path.parent / part.strip() for part in row[column].split(SEPARATOR) if part.strip())
        for column in ("rgb", "sar")
    )
    if not rgb:
        raise DataError(f"{path}, line {line}: the column 'rgb' is empty; name the RGB file there.")
    name = row.get("name") or rgb[0].stem
    if fault := fault_of_name(name):
        raise DataError(f"{path}, line {line}: the name '{name}' {fault}; give another in the column 'name'.")
    area = path.parent / row["aoi"] if row.get("aoi") else None
    return ArchiveScene(name, rgb, sar, area)
