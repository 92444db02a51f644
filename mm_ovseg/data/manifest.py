"""Manifests of RGB-SAR pairs: CSV files, such as from a spreadsheet, with the files of a pair or scene per line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.csv_table import fault_of_name, read_table
from mm_ovseg.errors import DataError

__all__ = ["SEPARATOR", "SceneFiles", "read_manifest", "read_pair_list"]

SEPARATOR = ";"  # of several files that provide the bands of one image


@dataclass(frozen=True)
class SceneFiles:
    """The files of a scene. Their existence is not checked here.

    Attributes:
        name: Stem of the files made from it.
        rgb: One file, or several whose bands are joined, such as red, green and blue; empty for SAR alone.
        sar: The same; empty for RGB alone.
        labels: A raster or polygons; None if the scene has no labels.
        area: A vector file with the polygons to map; None for the whole scene.
        clouds: A raster that says where RGB is under cloud; None if that is not known.
    """

    name: str
    rgb: tuple[Path, ...]
    sar: tuple[Path, ...] = ()
    labels: Path | None = None
    area: Path | None = None
    clouds: Path | None = None


def read_manifest(
    path: str | os.PathLike,
    *,
    required: Sequence[str] = (),
    optional: Sequence[str] = (),
    companions: Sequence[str] = (),
) -> list[SceneFiles]:
    """Read the scenes of a manifest.

    The first line names the columns: ``rgb`` and ``sar``, each one file or several separated by ``;``; ``labels``;
    ``aoi``; ``clouds``; and ``name``, by default the stem of the first RGB file, or of the first SAR file. Other
    columns are ignored, and so are empty lines. Paths are relative to the manifest's folder.

    Args:
        path: A CSV file in UTF-8, separated by commas.
        required: Columns that must have a value in every line; of ``rgb`` and ``sar``, one always must.
        optional: Columns that the file may omit, besides ``name``; ``rgb`` and ``sar`` it may not.
        companions: Endings of the names of other files that will be written for each scene.

    Returns:
        At least one scene, in file order, with unique names.

    Raises:
        DataError: The file is missing, empty or not such a table; a value is missing; a name repeats, could escape its
            folder, or is that of another scene's companion.
    """
    path = Path(path)
    scenes: list[SceneFiles] = []
    lines: dict[str, int] = {}  # folded name -> line
    columns = tuple(dict.fromkeys(("rgb", "sar", *required)))
    for line, row in _read_rows(path, columns, required, ("name", *optional), what="scene"):
        rgb, sar = (
            tuple(path.parent / part.strip() for part in row[column].split(SEPARATOR) if part.strip())
            for column in ("rgb", "sar")
        )
        if not (rgb or sar):
            raise DataError(f"{path}, line {line}: the columns 'rgb' and 'sar' are empty; name a file in one of them.")
        name = row.get("name") or (rgb or sar)[0].stem
        if fault := fault_of_name(name):
            raise DataError(f"{path}, line {line}: the name '{name}' {fault}; give another in the column 'name'.")
        labels, area, clouds = (
            path.parent / row[column] if row.get(column) else None for column in ("labels", "aoi", "clouds")
        )
        folded = name.casefold()  # some file systems treat "A.tif" and "a.tif" as the same file
        if folded in lines:
            raise DataError(
                f"{path}, lines {lines[folded]} and {line}: both scenes are named '{name}'; give them different "
                "names in the column 'name'."
            )
        lines[folded] = line
        scenes.append(SceneFiles(name, rgb, sar, labels, area, clouds))
    for name, line in lines.items():
        for ending in companions:
            if name.endswith(ending) and name.removesuffix(ending) in lines:
                raise DataError(
                    f"{path}, lines {lines[name.removesuffix(ending)]} and {line}: '{name}' is also the name of a file "
                    "beside the other scene's map; give one of them another name."
                )
    return scenes


def read_pair_list(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read pairs without a dataset from a manifest with ``rgb``, ``sar`` and optionally ``label`` and ``name``.

    Returns:
        At least one dataset dict with ``file_name``, ``sar_file_name``, ``image_id`` and, if there is a label,
        ``sem_seg_file_name``, in file order. Names may repeat.

    Raises:
        DataError: The file is missing, empty or not such a table, or a value is missing.
    """
    path = Path(path)
    keys = {"rgb": "file_name", "sar": "sar_file_name", "label": "sem_seg_file_name"}
    return [
        {key: str(path.parent / row[column]) for column, key in keys.items() if row.get(column)}
        | {"image_id": row.get("name") or Path(row["rgb"]).stem}
        for _, row in _read_rows(path, ("rgb", "sar"), ("rgb", "sar"), ("label", "name"), what="pair")
    ]


def _read_rows(
    path: Path, columns: Sequence[str], filled: Sequence[str], optional: Sequence[str], *, what: str
) -> list[tuple[int, Mapping[str, str]]]:
    rows = read_table(path, required=columns, optional=optional)
    if not rows:
        raise DataError(f"{path} lists no {what}; add one per line, below the header line.")
    for line, row in rows:
        if empty := [column for column in filled if not row[column].replace(SEPARATOR, "").strip()]:
            raise DataError(f"{path}, line {line}: the column '{empty[0]}' is empty; name the file there.")
    return rows
