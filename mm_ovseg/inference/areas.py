"""The areas of a class map's classes on the ellipsoid, not on the plane that the map is projected to."""

import itertools
import math
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import rasterio
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, RasterInfo, RasterSource, read_raster_info
from mm_ovseg.raster.grid import pixels_to_map

__all__ = [
    "Ellipsoid",
    "MeasuredValues",
    "block_edge",
    "check_classes",
    "count_values",
    "measure_strips",
    "measure_values",
    "pixel_areas",
    "read_class_map_info",
]

SQUARE_METRES_PER_HECTARE = 10_000
VALUES_SHOWN = 10
CACHE_BYTES = 64 << 20  # GDAL's default is 5% of the machine's memory
# The pixels of a block count as equally large, so blocks are small enough that the projection's scale changes by at
# most this across one; the area of a class that fills half of every block is then off by a quarter of this.
MAX_CHANGE = 0.002
BLOCK_EDGES = (256, 128, 64, 32, 16)  # pixels; divisors of the rows of a strip
PROBES = 5  # places along each side of the map
PIECES_PER_EDGE = 4  # the straight edge of a block is not a geodesic, but these pieces of it nearly are


class Ellipsoid:
    """Areas on the ellipsoid of a coordinate reference system, without a change of datum."""

    def __init__(self, crs: CRS, geographic: CRS) -> None:
        self._to_geographic = Transformer.from_crs(crs, geographic, always_xy=True)
        self._degrees = math.degrees(geographic.axis_info[0].unit_conversion_factor)  # some use grads
        self._geod = geographic.get_geod()

    @classmethod
    def of(cls, info: RasterInfo) -> "Ellipsoid | None":
        """None if the raster has no georeference, or one in a local system without a position on Earth."""
        if info.grid.crs is None or info.grid.transform is None:
            return None
        try:
            crs = CRS.from_wkt(info.grid.crs.to_wkt(version="WKT2_2019"))
            geographic = crs.geodetic_crs
            while geographic and geographic.is_derived:  # such as longitude and latitude about a shifted pole
                geographic = geographic.source_crs
            return cls(crs, geographic) if geographic and geographic.is_geographic else None
        except (ProjError, rasterio.errors.CRSError):  # a system known to only one of the two libraries
            return None

    def areas(self, rings: np.ndarray) -> np.ndarray:
        """Square metres (...) of rings in map coordinates (..., points, 2), which need not repeat the first point.

        NaN where a point is outside the domain of the projection.
        """
        longitudes, latitudes = self._on_ellipsoid(rings)
        known = np.isfinite(longitudes + latitudes).all(axis=-1)
        areas = np.full(rings.shape[:-2], np.nan)
        for index in map(tuple, np.argwhere(known)):
            areas[index] = abs(self._geod.polygon_area_perimeter(longitudes[index], latitudes[index])[0])
        return areas

    def polygon_areas(self, polygons: np.ndarray) -> np.ndarray:
        """Square metres (N,) of shapely Polygons in map coordinates, without their holes; NaN as in :meth:`areas`."""
        _, points, (ring_ends, polygon_ends) = shapely.to_ragged_array(polygons)
        longitudes, latitudes = self._on_ellipsoid(points)
        rings = np.array(
            [
                abs(self._geod.polygon_area_perimeter(longitudes[start:end], latitudes[start:end])[0])
                for start, end in itertools.pairwise(ring_ends)
            ]
        )
        rings[polygon_ends[:-1]] *= -1  # outer rings; the others are holes
        return -np.add.reduceat(rings, polygon_ends[:-1])

    def _on_ellipsoid(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitudes and latitudes in degrees of (..., 2) map coordinates; NaN outside the projection's domain."""
        x, y = (axis * self._degrees for axis in self._to_geographic.transform(points[..., 0], points[..., 1]))
        unknown = ~np.isfinite(x + y)
        # Global grids may end half a pixel beyond the poles.
        return np.where(unknown, np.nan, x), np.where(unknown, np.nan, np.clip(y, -90, 90))


@dataclass(frozen=True, eq=False)
class MeasuredValues:
    """The pixels and areas of the values of a map, by the values of another one on its grid.

    Attributes:
        pixels: int64 (256, G), the number of pixels with a value of the map and one of the other.
        areas: float64 (256, G), hectares on the ellipsoid; NaN where unknown.
    """

    pixels: np.ndarray
    areas: np.ndarray

    def of(self, value: int | slice, group: int | slice = slice(None)) -> dict[str, int | float | None]:
        """``pixels`` and ``hectares``, None if unknown, of some values of the map and of the other one."""
        area = float(self.areas[value, group].sum())
        return {"pixels": int(self.pixels[value, group].sum()), "hectares": None if math.isnan(area) else area}


def measure_values(path: str | os.PathLike, by: str | os.PathLike | None = None, groups: int = 1) -> MeasuredValues:
    """Count the pixels of every value of a uint8 raster, and measure their areas.

    Args:
        path: the raster.
        by: another one on the same grid, whose values form the groups; None for a single group.
        groups: G; values from G - 1 on form the last one.

    Raises:
        DataError: a file is missing, damaged, or not a uint8 raster.
    """

    def strips() -> Iterator[tuple[int, np.ndarray]]:
        for (top, rows), *others in zip(*(source.strips(1) for source in sources), strict=True):
            keys = rows.astype(np.int32) * groups
            for _, other in others:
                keys += np.minimum(other, groups - 1)
            yield top, keys

    info = read_class_map_info(path)
    with ExitStack() as stack:
        sources = [stack.enter_context(RasterSource(file)) for file in (path, by) if file is not None]
        pixels, areas = measure_strips(info, strips(), 256 * groups)
    return MeasuredValues(pixels.reshape(256, groups), areas.reshape(256, groups))


def measure_strips(
    info: RasterInfo, strips: Iterable[tuple[int, np.ndarray]], num_values: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of every value of a raster, and measure their areas.

    Areas are accurate to 0.1 %, except for pixels of kilometres or near the poles. Memory use does not depend on the
    height of the raster.

    Args:
        info: its header.
        strips: the first row of each strip, and its values, integers (rows, W), as from
            :meth:`mm_ovseg.raster.RasterSource.strips`.
        num_values: V; values are below it.

    Returns:
        Pixels, int64 (V,), and hectares, float64 (V,), NaN if unknown, of the values 0 to V - 1.
    """
    ellipsoid = Ellipsoid.of(info)
    edge = block_edge(info, ellipsoid)
    pixels = np.zeros(num_values, dtype=np.int64)
    square_metres = np.zeros(num_values)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        for top, rows in strips:
            for (i, j), area in np.ndenumerate(_block_areas(info, ellipsoid, top, len(rows), edge)):
                block = rows[i * edge : (i + 1) * edge, j * edge : (j + 1) * edge]
                counts = np.bincount(block.ravel(), minlength=num_values)
                pixels += counts
                held = counts > 0  # blocks of nodata may be anywhere, even outside the domain of the projection
                square_metres[held] += counts[held] * (area / block.size)
    if ellipsoid is None:
        square_metres[:] = np.nan
    return pixels, square_metres / SQUARE_METRES_PER_HECTARE


def pixel_areas(info: RasterInfo, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Square metres (N,) of pixels; NaN where unknown."""
    ellipsoid = Ellipsoid.of(info)
    if ellipsoid is None:
        return np.full(len(rows), np.nan)
    return ellipsoid.areas(_outlines(info, np.stack([columns, rows], axis=1), np.ones(2)))


def count_values(path: str | os.PathLike) -> np.ndarray:
    """Count the pixels of each value of a uint8 raster: int64 (256,).

    Raises:
        DataError: the file is missing or damaged.
    """
    counts = np.zeros(256, np.int64)
    with RasterSource(path) as source:
        for _, rows in source.strips(1):
            counts += np.bincount(rows.ravel(), minlength=256)
    return counts


def read_class_map_info(path: str | os.PathLike) -> RasterInfo:
    """Read the header of a class map.

    Raises:
        DataError: the file is missing, not a raster, or its first band is not uint8.
    """
    info = read_raster_info(path)
    if info.dtypes[0] != "uint8":
        raise DataError(
            f"{path} holds {info.dtypes[0]}, but a class map holds uint8; give a map written by this package."
        )
    return info


def check_classes(path: str | os.PathLike, values: Iterable[int], known: Collection[int]) -> None:
    """Check that every value of a class map is known, or nodata.

    Raises:
        DataError: one is not.
    """
    if strange := [int(value) for value in values if value not in known and value != NODATA_CLASS]:
        raise DataError(
            f"{path} holds the values {', '.join(map(str, strange[:VALUES_SHOWN]))}, for which it has no class names; "
            "give the map as it was written."
        )


def block_edge(info: RasterInfo, ellipsoid: Ellipsoid | None) -> int:
    """The side in pixels of blocks within which all pixels cover nearly the same area."""
    if ellipsoid is None:
        return BLOCK_EDGES[0]
    step = BLOCK_EDGES[-1]
    rows, columns = (np.linspace(0, max(length - 2 * step, 0), PROBES) for length in info.grid.shape)
    starts = np.stack(np.meshgrid(columns, rows), axis=-1)
    here, right, below = (
        ellipsoid.areas(_outlines(info, starts + offset, np.full(2, step))) for offset in ((0, 0), (step, 0), (0, step))
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # beyond the poles, areas are 0
        changes = np.abs([right / here - 1, below / here - 1]) / step
    change = np.nan_to_num(changes, nan=0).max()  # NaN outside the projection
    return next((edge for edge in BLOCK_EDGES if edge * change <= MAX_CHANGE), step)


def _block_areas(info: RasterInfo, ellipsoid: Ellipsoid | None, top: int, height: int, edge: int) -> np.ndarray:
    """Square metres (block rows, block columns) of the blocks of a strip; NaN where unknown."""
    starts = np.stack(np.meshgrid(np.arange(0, info.grid.width, edge), np.arange(top, top + height, edge)), axis=-1)
    if ellipsoid is None:
        return np.full(starts.shape[:2], np.nan)
    sizes = np.minimum(starts + edge, (info.grid.width, top + height)) - starts
    return ellipsoid.areas(_outlines(info, starts, sizes))


def _outlines(info: RasterInfo, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Outlines (..., points, 2) in map coordinates of blocks, from their corners and sizes in pixels (column, row)."""
    square = Grid(1, 1).outline(PIECES_PER_EDGE)
    return pixels_to_map(info.grid.transform, starts[..., np.newaxis, :] + square * sizes[..., np.newaxis, :])
