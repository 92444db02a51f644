"""Reading polygons of vector files with geopandas and pyogrio."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
import pyogrio
import shapely
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.raster.grid import Grid
from mm_ovseg.raster.polygon_projection import PolygonProjector, as_polygons, gathered, simple_parts, valid
from mm_ovseg.raster.vector_drivers import check_before_opening, path_for_pyogrio
from mm_ovseg.raster.vector_layer import attribute_values, check_attribute, check_systems, choose_layer, reading

__all__ = ["Polygons", "format_left_out", "read_polygons"]

WITHOUT_GEOMETRY, EMPTY, DAMAGED = "without geometry", "empty", "damaged"
BEYOND_PROJECTION = "outside of the scene's projection"
# By shapely's geometry type.
OTHER_KINDS = {"points": (0,), "lines": (1, 2)}


@dataclass(frozen=True)
class Polygons:
    """The polygons of a vector file that intersect a scene.

    Attributes:
        geometries: (N,) shapely MultiPolygons in the reference system of the scene's grid, clipped to its extent, in
            file order.
        values: (N,) of their attribute: strings, numbers, or None if missing or not asked for.
        areas: (N,) of the unclipped polygons, in square units of the file's system; for comparisons only.
        left_out: Reason -> number of features near the scene, or without location, that are not polygons or unusable;
            includes points and lines of a collection that also contains polygons.
    """

    geometries: np.ndarray
    values: tuple[str | float | None, ...]
    areas: np.ndarray
    left_out: dict[str, int]


def read_polygons(
    path: str | os.PathLike,
    grid: Grid,
    *,
    attribute: str | None = None,
    layer: str | None = None,
    layer_option: str = "--layer",
) -> Polygons:
    """Read the polygons of a layer that intersect a scene; in formats with a spatial index, nothing else is read.

    Polygons in geometry collections count, curves are linearised, heights are dropped, and self-intersections are
    repaired.

    Args:
        path: The file.
        grid: Grid of the scene.
        attribute: Attribute to read; None for none.
        layer: Name of the layer; None if the file has only one.
        layer_option: The option that selects the layer, for messages.

    Raises:
        DataError: The file cannot be read, has no such layer or attribute, or contains no polygons; or its reference
            system is missing or cannot be transformed to that of the scene.
    """
    check_before_opening(path)
    name = path_for_pyogrio(path)
    with reading(path):
        layer = choose_layer(path, pyogrio.list_layers(name), layer, layer_option)
        info = pyogrio.read_info(name, layer=layer, force_total_bounds=True, force_feature_count=True)
        _check_content(path, info, attribute)
        projector = _projector(path, CRS.from_user_input(info["crs"]) if info["crs"] else None, grid)
        boxes = projector.boxes(info["total_bounds"]) if info["total_bounds"] is not None else [None]
        columns = [] if attribute is None else [attribute]
        options = {"layer": layer, "columns": columns, "fid_as_index": True, "datetime_as_string": True}
        frames = [pyogrio.read_dataframe(name, bbox=box, force_2d=True, on_invalid="fix", **options) for box in boxes]
        without = _count_without_geometry(name, layer)
        frame = pandas.concat(frames) if frames else pandas.DataFrame(columns=[*columns, "geometry"])
        frame = frame[~frame.index.duplicated()].sort_index()
        read = frame["geometry"].to_numpy(dtype=object)
        geometries, reasons = _polygons_of(read)
        areas = shapely.area(geometries)
        geometries = projector.project(geometries)
    lost = shapely.is_missing(geometries)
    # GDAL returns features without geometry only if no box is given; any other missing geometry is beyond repair.
    reasons[DAMAGED] += int(shapely.is_missing(read).sum()) - (without if boxes == [None] else 0)
    reasons.update({WITHOUT_GEOMETRY: without, BEYOND_PROJECTION: int(lost.sum())})
    kept = ~lost & ~shapely.is_empty(geometries)
    values = [None] * len(frame) if attribute is None else attribute_values(path, attribute, frame[attribute])
    return Polygons(
        geometries[kept],
        tuple(value for value, keep in zip(values, kept, strict=True) if keep),
        areas[kept],
        {reason: count for reason, count in reasons.items() if count > 0},
    )


def format_left_out(left_out: Mapping[str, int]) -> str:
    """The reasons and counts of :attr:`Polygons.left_out`, in words."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


def _check_content(path: str | os.PathLike, info: Mapping[str, Any], attribute: str | None) -> None:
    if attribute is not None:
        check_attribute(path, list(info["fields"]), attribute, "polygons")
    kind = str(info["geometry_type"])
    if info["features"] == 0 or "Point" in kind or "Line" in kind:
        raise DataError(f"{path} has no polygons in this layer; choose a layer that has.")


def _projector(path: str | os.PathLike, own: CRS | None, grid: Grid) -> PolygonProjector:
    check_systems(path, own, grid)
    return PolygonProjector(own, grid, os.fspath(path))


def _count_without_geometry(name: str, layer: str) -> int:
    quoted = layer.replace("\\", "\\\\").replace('"', '\\"')
    query = f'SELECT FID FROM "{quoted}" WHERE OGR_GEOMETRY IS NULL'
    return len(pyogrio.read_dataframe(name, sql=query, sql_dialect="OGRSQL", read_geometry=False))


def _polygons_of(geometries: np.ndarray) -> tuple[np.ndarray, Counter[str]]:
    """(N,) valid MultiPolygons, possibly empty, of geometries of any kind, and why others are left out."""
    reasons: Counter[str] = Counter()
    geometries = geometries.copy()
    reasons[EMPTY] = int((shapely.is_empty(geometries) & ~shapely.is_missing(geometries)).sum())
    coordinates, owners = shapely.get_coordinates(geometries, return_index=True)
    infinite = np.unique(owners[~np.isfinite(coordinates).all(axis=1)])
    reasons[DAMAGED] = len(infinite)
    geometries[infinite] = None
    simple, owners = simple_parts(geometries, np.arange(len(geometries)))
    for reason, kinds in OTHER_KINDS.items():
        found = np.isin(shapely.get_type_id(simple), kinds) & ~shapely.is_empty(simple)
        reasons[reason] = len(np.unique(owners[found]))
    parts, owners = as_polygons(simple, owners)
    polygons = gathered(valid(parts), owners, len(geometries))
    overlapping = ~shapely.is_valid(polygons)  # each part is valid, but two share ground
    polygons[overlapping] = shapely.union_all(polygons[overlapping, np.newaxis], axis=1)
    reasons[DAMAGED] += int(shapely.is_empty(polygons[np.unique(owners)]).sum())
    return polygons, reasons
