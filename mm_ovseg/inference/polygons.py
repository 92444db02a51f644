"""The patches of a class map as polygons in a GeoPackage, for geographic information systems."""

import itertools
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import rasterio
import rasterio.features
import shapely
from rasterio import Affine
from rasterio._err import CPLE_BaseError

from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import ConfigError, DataError, brief_reason
from mm_ovseg.inference.areas import (
    PIECES_PER_EDGE,
    SQUARE_METRES_PER_HECTARE,
    Ellipsoid,
    block_edge,
    check_classes,
    count_values,
    read_class_map_info,
)
from mm_ovseg.raster import Grid, RasterInfo, open_raster
from mm_ovseg.raster.geopackage import VectorLayer
from mm_ovseg.raster.grid import pixels_to_map

__all__ = ["check_polygon_options", "polygon_layer"]

POLYGONS_AT_ONCE = 20_000


def check_polygon_options(grid: Grid, min_area: float | None, simplify: float | None) -> None:
    """Check the options of :func:`polygon_layer` for the grid of a map.

    Raises:
        ConfigError: the size of the grid's pixels on the ground is unknown, or the grid is no larger than ``min_area``.
    """
    if (min_area is not None or simplify is not None) and grid.pixel_size_metres is None:
        raise ConfigError(
            "The size of the map's pixels on the ground is unknown, so its polygons cannot be measured in hectares and "
            "metres; leave --min-area and --simplify out, or georeference the scene."
        )
    if min_area is not None and _pixels(grid, min_area) >= grid.width * grid.height:
        hectares = grid.width * grid.height * grid.pixel_size_metres**2 / SQUARE_METRES_PER_HECTARE
        raise ConfigError(f"--min-area is {min_area:g} ha, but the map has only {hectares:.4g}; give less.")


def polygon_layer(
    name: str,
    map_path: str | os.PathLike,
    class_names: Mapping[int, str],
    *,
    left_out: Collection[int] = (),
    fields: Mapping[str, Mapping[int, str]] | None = None,
    min_area: float | None = None,
    simplify: float | None = None,
) -> VectorLayer:
    """Outline the patches of a finished class map: pixels of one class that touch along their edges.

    The map and polygons are streamed while the layer is written, except that ``min_area`` needs the whole map in
    memory, at a few bytes per pixel, and ``simplify`` all polygons.

    Args:
        name: of the layer.
        map_path: uint8 raster of the values in ``class_names`` and ``left_out``, and 255 for nodata.
        class_names: value -> name, of the values whose patches are outlined.
        left_out: other values, which get no polygon, like nodata.
        fields: further fields -> value -> text.
        min_area: hectares, based on the size of the central pixel; smaller patches are merged into their largest
            neighbour, unless they are surrounded by nodata.
        simplify: metres; removes corners whose triangles are smaller than its square (Visvalingam-Whyatt). Neighbours
            keep a common border.

    Returns:
        The layer, with the fields class_index, class_name, the further ones, and area_ha: hectares of the polygon on
        the ellipsoid, null for a map that is not georeferenced. Coordinates are then (column, -row), where QGIS draws
        the map.

    Raises:
        ConfigError: as in :func:`check_polygon_options`.
        DataError: the map is missing, damaged, not a uint8 raster, or holds another value.
    """
    info = read_class_map_info(map_path)
    grid = info.grid
    check_polygon_options(grid, min_area, simplify)
    # Read the whole map first, since GDAL silently ignores errors when it outlines a damaged one.
    check_classes(map_path, np.flatnonzero(count_values(map_path)), {*class_names, *left_out})
    patches = _patches(info, 1 if min_area is None else _pixels(grid, min_area), {NODATA_CLASS, *left_out})
    if simplify is not None:
        patches = _simplified(patches, grid.transform, simplify / grid.pixel_size_metres)
    crs = grid.crs.to_wkt(version="WKT2_2019") if grid.crs else None
    return VectorLayer(name, _chunks(patches, info, {"class_name": class_names, **(fields or {})}), crs)


def _pixels(grid: Grid, hectares: float) -> int:
    return math.ceil(hectares * SQUARE_METRES_PER_HECTARE / grid.pixel_size_metres**2)


def _patches(info: RasterInfo, size: int, left_out: Collection[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Class indices and polygons, in map coordinates, of patches of at least ``size`` pixels of other values."""
    with open_raster(info.path) as dataset:
        try:
            band: Any = rasterio.band(dataset, 1)
            if size > 1:
                band = _sieved(info.orientation.apply(dataset.read(1)), size)
            # For a band, unlike an array, GDAL returns map coordinates regardless of the given transform.
            shapes = rasterio.features.shapes(band, connectivity=4, transform=info.grid.transform or Affine.identity())
            outlines = ((index, geometry["coordinates"]) for geometry, index in shapes if index not in left_out)
            while chunk := list(itertools.islice(outlines, POLYGONS_AT_ONCE)):
                indices, polygons = zip(*chunk, strict=True)
                yield np.array(indices, dtype=np.int32), _as_polygons(polygons)
        except CPLE_BaseError as error:
            raise DataError(f"{info.path} is damaged ({brief_reason(error)}); replace it.") from error


def _sieved(class_map: np.ndarray, size: int) -> np.ndarray:
    """Give patches smaller than ``size`` pixels the class of their largest neighbour."""
    while True:
        sieved = rasterio.features.sieve(class_map, size, mask=class_map != NODATA_CLASS, connectivity=4)
        if (sieved == class_map).all():  # GDAL leaves patches with only small neighbours to the next round
            return sieved
        class_map = sieved


def _as_polygons(polygons: Sequence[Sequence[Sequence[Sequence[float]]]]) -> np.ndarray:
    """Shapely polygons from GeoJSON coordinates."""
    rings = [ring for polygon in polygons for ring in polygon]
    points = np.concatenate([np.asarray(ring) for ring in rings])
    ring_ends = np.cumsum([0, *map(len, rings)])
    polygon_ends = np.cumsum([0, *map(len, polygons)])
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (ring_ends, polygon_ends))


def _simplified(
    patches: Iterator[tuple[np.ndarray, np.ndarray]], transform: Affine, tolerance: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Simplified patches; the tolerance is in pixels."""
    chunks = list(patches)
    if not chunks:
        return
    indices, polygons = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    # In pixels, which are nearly square on the ground, whatever the unit of the map's CRS.
    polygons = shapely.segmentize(_moved(polygons, ~transform), 1)
    # Neighbours must share all corners of their border; on a straight edge, one of them may lack a corner.
    polygons = shapely.transform(polygons, np.rint)
    polygons = _moved(shapely.coverage_simplify(polygons, tolerance), transform)
    for start in range(0, len(indices), POLYGONS_AT_ONCE):
        yield indices[start : start + POLYGONS_AT_ONCE], polygons[start : start + POLYGONS_AT_ONCE]


def _moved(polygons: np.ndarray, transform: Affine) -> np.ndarray:
    return shapely.transform(polygons, lambda points: pixels_to_map(transform, points))


def _chunks(
    patches: Iterator[tuple[np.ndarray, np.ndarray]], info: RasterInfo, fields: Mapping[str, Mapping[int, str]]
) -> Iterator[dict[str, Any]]:
    """The columns of the layer; empty without patches."""
    texts = {field: np.array([of.get(value) for value in range(256)], dtype=object) for field, of in fields.items()}
    ellipsoid = Ellipsoid.of(info)
    longest = 0.0
    if ellipsoid is not None:
        pixel = max(math.hypot(*column) for column in np.reshape(tuple(info.grid.transform), (3, 3)).T[:2])
        longest = pixel * block_edge(info, ellipsoid) / PIECES_PER_EDGE
    nothing = np.empty(0, dtype=np.int32), np.empty(0, dtype=object)
    for indices, polygons in itertools.chain([nothing], patches):
        hectares = np.full(len(indices), np.nan)
        if ellipsoid is not None and len(indices):
            hectares = ellipsoid.polygon_areas(shapely.segmentize(polygons, longest)) / SQUARE_METRES_PER_HECTARE
        if info.grid.transform is None:
            polygons = shapely.transform(polygons, lambda points: points * (1, -1))
        columns = {field: of[indices] for field, of in texts.items()}
        yield {"class_index": indices, **columns, "area_ha": hectares, "geometry": polygons}
