"""The files that mapping changes writes."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import DataError, brief_reason
from mm_ovseg.files import complete_file
from mm_ovseg.inference.change_matrix import UNCHANGED, ChangeMatrix
from mm_ovseg.inference.deliverables import (
    CSV,
    DATA,
    GEOPACKAGE,
    JSON,
    METADATA,
    STYLE,
    TABLE,
    XML,
    deliverable_files,
)
from mm_ovseg.inference.flood import DRY
from mm_ovseg.inference.map_item import MapAsset
from mm_ovseg.inference.map_writer import class_band, write_qgis_style
from mm_ovseg.inference.polygons import polygon_layer
from mm_ovseg.inference.scene_files import sibling
from mm_ovseg.raster import Grid, write_geotiff
from mm_ovseg.raster.attribute_table import table_path
from mm_ovseg.raster.cog import write_cog
from mm_ovseg.raster.geopackage import write_geopackage

__all__ = [
    "change_assets",
    "change_outputs",
    "flood_path",
    "write_change_polygons",
    "write_change_raster",
    "write_change_table",
]

COLUMNS = ("from", "to", "value", "pixels", "hectares")


def flood_path(output: Path) -> Path:
    """The flood map next to a map of changes."""
    return sibling(output, "_flood.tif")


def change_outputs(output: Path, vector: Path | None, deliver: Sequence[str]) -> dict[str, list[Path | None]]:
    """Option -> paths that it may write, for :func:`mm_ovseg.files.check_outputs`."""
    endings = (".qml", ".json", ".csv", "_flood.tif", "_flood.qml")
    beside = [sibling(output, ending) for ending in endings]
    tables = [table_path(flood_path(output))] if TABLE in deliver else []
    return {"--output": [output, *beside, *deliverable_files(output, deliver), *tables], "--vector": [vector]}


def change_assets(
    output: Path, legend: Sequence[LegendEntry], flood: Sequence[LegendEntry], vector: Path | None
) -> dict[str, MapAsset]:
    """The files of a map of changes, as a STAC item lists them.

    Args:
        output: the map.
        legend: its legend.
        flood: that of the flood map; empty without one.
        vector: the GeoPackage of polygons, if they are written.
    """
    assets = {"map": MapAsset(output, "Changes", DATA, legend=legend)}
    if flood:
        assets["flood"] = MapAsset(flood_path(output), "Flood", DATA, legend=flood)
    if vector is not None:
        assets["polygons"] = MapAsset(vector, "Polygons", DATA, GEOPACKAGE)
    assets["areas"] = MapAsset(sibling(output, ".csv"), "Areas", DATA, CSV)
    assets["style"] = MapAsset(output.with_suffix(".qml"), "Style for QGIS", STYLE, XML)
    assets["report"] = MapAsset(sibling(output, ".json"), "Report", METADATA, JSON)
    return assets


def write_change_raster(
    path: Path, strips: Iterable[np.ndarray], grid: Grid, legend: Sequence[LegendEntry], *, what: str
) -> None:
    """Write a map as a COG, and its style for QGIS, which does not show the first value of the legend.

    Args:
        path: the file, ``.tif``; missing folders are created and an existing file is replaced.
        strips: its rows, uint8 (rows, W), from the first to the last; 255 for no data.
        grid: its grid.
        legend: its other values.
        what: its description.

    Raises:
        DataError: a file cannot be written. Errors of the strips pass through.
    """
    style = {**class_band(legend), "descriptions": [what], "nodata": NODATA_CLASS}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{path.stem}.", suffix=".tmp", dir=path.parent) as folder:
            plain = Path(folder) / path.name
            # Copied once more, so it needs no strong compression.
            write_geotiff(plain, (strip[np.newaxis] for strip in strips), grid, level=1, **style)
            write_cog(plain, path, categorical=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({brief_reason(error)}); choose another place.") from error
    write_qgis_style(path.with_suffix(".qml"), legend[1:])


def write_change_polygons(
    path: Path, output: Path, matrix: ChangeMatrix, flood: Sequence[LegendEntry]
) -> dict[str, int]:
    """Outline the changes, and what is not dry in the flood map, in the layers "change" and "flood" of a GeoPackage.

    Args:
        path: the GeoPackage.
        output: the finished map of changes.
        matrix: its changes.
        flood: the legend of the flood map; empty without one.

    Returns:
        The number of polygons of each layer.

    Raises:
        DataError: a file cannot be read or written.
    """
    names = {entry.value: entry.name for entry in matrix.legend() if entry.value != UNCHANGED}
    named = [change for change in matrix.changes if names[change.value] == change.name]
    fields = {
        "from_class": {change.value: matrix.classes[change.before].name for change in named},
        "to_class": {change.value: matrix.classes[change.after].name for change in named},
    }
    layers = [polygon_layer("change", output, names, left_out=(UNCHANGED,), fields=fields)]
    if flood:
        names = {entry.value: entry.name for entry in flood if entry.value != DRY}
        layers.append(polygon_layer("flood", flood_path(output), names, left_out=(DRY,)))
    return dict(zip((layer.name for layer in layers), write_geopackage(path, layers), strict=True))


def write_change_table(path: Path, report: Mapping[str, Any]) -> None:
    """Write the changes of :meth:`ChangeMatrix.report`, and what stayed in each class, as a CSV file.

    Raises:
        DataError: it cannot be written.
    """
    stayed = [
        {"from": entry["name"], "to": entry["name"], "value": UNCHANGED, **entry["unchanged"]}
        for entry in report["classes"]
        if entry["unchanged"]["pixels"]
    ]
    with complete_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*report["changes"], *stayed])
