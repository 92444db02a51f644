"""Reading and writing points on the grid of a raster."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyogrio
import shapely
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.raster.crs import CoordinateTransform, full_turn
from mm_ovseg.raster.geopackage import VectorLayer, write_geopackage
from mm_ovseg.raster.grid import Grid, nearest_turn, pixels_to_map
from mm_ovseg.raster.vector_drivers import check_before_opening, path_for_pyogrio
from mm_ovseg.raster.vector_layer import attribute_values, check_attribute, check_systems, choose_layer, reading

__all__ = ["Points", "read_points", "write_points"]


@dataclass(frozen=True, eq=False)
class Points:
    """The points of a vector file, in file order.

    Attributes:
        rows, columns: (N,) int64, the pixels that they are in; may be outside of the grid.
        values: (N,) of their attribute: strings, numbers, or None if missing.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: tuple[str | float | None, ...]


def read_points(path: str | os.PathLike, grid: Grid, *, attribute: str, layer: str | None = None) -> Points:
    """Read the points of a layer, and find their pixels; multipoints of one point count as points.

    Args:
        path: The file, in any reference system.
        grid: Grid of the raster.
        attribute: Attribute to read.
        layer: Name of the layer; None if the file has only one.

    Raises:
        DataError: The file cannot be read, has no such layer or attribute, or contains anything but points; or its
            reference system is missing or cannot be transformed to that of the grid.
    """
    check_before_opening(path)
    name = path_for_pyogrio(path)
    with reading(path):
        layer = choose_layer(path, pyogrio.list_layers(name), layer, "--layer")
        info = pyogrio.read_info(name, layer=layer)
        check_attribute(path, list(info["fields"]), attribute, "points")
        if info["geometry_type"] is None:
            raise DataError(f"{path} has no points in this layer; choose a layer that has.")
        own = CRS.from_user_input(info["crs"]) if info["crs"] else None
        check_systems(path, own, grid)
        frame = pyogrio.read_dataframe(name, layer=layer, columns=[attribute], force_2d=True, datetime_as_string=True)
    parts, owners = shapely.get_parts(frame["geometry"].to_numpy(dtype=object), return_index=True)
    is_point = (shapely.get_type_id(parts) == 0) & ~shapely.is_empty(parts)
    if not len(frame):
        raise DataError(f"{path} has no points in this layer; choose a layer that has.")
    if not is_point.all() or not np.array_equal(owners, np.arange(len(frame))):
        raise DataError(f"{path} has features that are not a single point; remove them.")
    x, y = CoordinateTransform(own, grid.crs, (os.fspath(path), "the map"))(*shapely.get_coordinates(parts).T)
    if (turn := full_turn(grid.crs)) is not None:
        x = nearest_turn(x, (grid.transform @ (grid.width / 2, grid.height / 2))[0], turn)
    columns, rows = ~grid.transform @ (x, y)
    if not np.isfinite(columns + rows).all():
        raise DataError(f"{path} has points where the map's projection is not defined; remove them.")
    values = attribute_values(path, attribute, frame[attribute])
    return Points(np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64), tuple(values))


def write_points(
    path: str | os.PathLike,
    layer: str,
    grid: Grid,
    rows: np.ndarray,
    columns: np.ndarray,
    attributes: Mapping[str, Sequence[Any]],
) -> None:
    """Write the centres of pixels to a GeoPackage with the attributes ``x`` and ``y`` (map coordinates) and others.

    Args:
        path: The file; missing folders are created and an existing file is replaced.
        layer: Name of its layer.
        grid: Grid of the pixels, with a transform.
        rows, columns: (N,) integers.
        attributes: Name -> N values.

    Raises:
        DataError: The file cannot be written.
    """
    x, y = pixels_to_map(grid.transform, np.stack([columns, rows], axis=1) + 0.5).T
    chunk = {**attributes, "x": x, "y": y, "geometry": shapely.points(x, y)}
    crs = None if grid.crs is None else grid.crs.to_wkt()
    write_geopackage(path, [VectorLayer(layer, [chunk], crs, geometry_type="Point")])
