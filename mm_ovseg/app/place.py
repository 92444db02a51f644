"""Where a scene is: between its pixels and the coordinates in which the browser shows it."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid
from mm_ovseg.raster.crs import LONGITUDE_LATITUDE, CoordinateTransform, full_turn
from mm_ovseg.raster.grid import nearest_turn, pixels_to_map, unit_square

__all__ = ["TILE", "WEB_MERCATOR", "Place", "Window"]

TILE = 256  # pixels
WEB_MERCATOR = CRS.from_epsg(3857)
MAX_ZOOM = 26
EQUATOR = 2 * math.pi * 6_378_137  # metres, of Web Mercator
MAX_LATITUDE = 85.05  # of Web Mercator
POINTS_PER_SIDE = 32

Window = tuple[int, int, int, int]  # row, column, height, width


@dataclass(frozen=True)
class Place:
    """The place of a scene's grid.

    Attributes:
        grid: the grid.
    """

    grid: Grid

    @cached_property
    def bounds(self) -> list[list[float]] | None:
        """[[south, west], [north, east]] in degrees; None if the scene cannot be shown on a map in Web Mercator."""
        if self.grid.crs is None or self.grid.transform is None:
            return None
        try:
            # PROJ takes some local systems for known ones by their names; GDAL, which warps the tiles, does not.
            transform(self.grid.crs, WEB_MERCATOR, *([axis] for axis in self.grid.transform @ (0, 0)))
            return self.bounds_of((0, 0, *self.grid.shape))
        except (DataError, RasterioError, CPLE_BaseError):
            return None

    @property
    def is_on_map(self) -> bool:
        """Whether it is shown by longitude and latitude, and not by its pixels."""
        return self.bounds is not None

    @cached_property
    def native_zoom(self) -> int:
        """The zoom at which a pixel of a tile is at most as large as one of the scene."""
        if not self.is_on_map:
            return max(0, math.ceil(math.log2(max(self.grid.shape) / TILE)))
        (south, _), (north, _) = self.bounds
        metres = self.grid.pixel_size_metres / math.cos(math.radians((south + north) / 2))
        return min(MAX_ZOOM, max(0, math.ceil(math.log2(EQUATOR / TILE / metres) - 0.1)))

    def bounds_of(self, window: Window) -> list[list[float]]:
        """[[south, west], [north, east]] of a window, in degrees; east may exceed 180.

        Raises:
            DataError: a part of it has no place on a map in Web Mercator.
        """
        grid = self.grid.window(*window)
        longitudes, latitudes = self._to_degrees(*grid.outline(POINTS_PER_SIDE).T)
        if not np.isfinite([longitudes, latitudes]).all() or np.abs(latitudes).max() > MAX_LATITUDE:
            raise DataError("The scene is outside of the map.")
        longitudes = nearest_turn(longitudes, longitudes[0], 360)
        if np.ptp(longitudes) > 360 + 1e-6:
            raise DataError("The scene is wider than the Earth.")
        west = longitudes.min()
        turns = 360 * math.floor((west + 180) / 360)
        return [
            [float(latitudes.min()), float(west - turns)],
            [float(latitudes.max()), float(longitudes.max() - turns)],
        ]

    def pixel_at(self, latitude: float, longitude: float) -> tuple[int, int] | None:
        """The (row, column) of the pixel at a place in degrees; None outside of the scene."""
        columns, rows = self._pixels(np.array([longitude]), np.array([latitude]))
        if not np.isfinite([columns[0], rows[0]]).all():
            return None
        row, column = math.floor(rows[0]), math.floor(columns[0])
        return (row, column) if 0 <= row < self.grid.height and 0 <= column < self.grid.width else None

    def window_of_area(self, corners: list[list[float]]) -> Window | None:
        """The smallest window around a rectangle between two corners [latitude, longitude]; None outside."""
        (south, west), (north, east) = corners
        longitudes, latitudes = (unit_square(POINTS_PER_SIDE) * (east - west, north - south) + (west, south)).T
        columns, rows = self._pixels(longitudes, latitudes)
        known = np.isfinite(columns) & np.isfinite(rows)
        if not known.any():
            return None
        columns, rows = columns[known], rows[known]
        return self.window_of_pixels([[columns.min(), rows.min()], [columns.max(), rows.max()]])

    def window_of_pixels(self, corners: list[list[float]]) -> Window | None:
        """The smallest window around a rectangle between two corners [x, y] in pixels; None outside."""
        (left, top), (right, bottom) = ([f(axis) for axis in zip(*corners, strict=True)] for f in (min, max))
        first = max(0, math.floor(top)), max(0, math.floor(left))
        last = min(self.grid.height, math.ceil(bottom)), min(self.grid.width, math.ceil(right))
        size = last[0] - first[0], last[1] - first[1]
        return (*first, *size) if min(size) > 0 else None

    def coordinates(self, row: int, column: int) -> str | None:
        """The centre of a pixel in the scene's own system, such as "EPSG:32632 512345 5312345"; None without one."""
        if self.grid.crs is None or self.grid.transform is None:
            return None
        x, y = pixels_to_map(self.grid.transform, np.array([column + 0.5, row + 0.5]))
        digits = 6 if self.grid.crs.is_geographic else 0
        return f"{self.crs_name} {x:.{digits}f} {y:.{digits}f}"

    @property
    def crs_name(self) -> str | None:
        """The name of the coordinate reference system, such as "EPSG:32632"; None without one."""
        if self.grid.crs is None:
            return None
        code = self.grid.crs.to_epsg()
        return self.grid.crs.to_string() if code is None else f"EPSG:{code}"

    def _to_degrees(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return CoordinateTransform(self.grid.crs, LONGITUDE_LATITUDE)(x, y)

    def _pixels(self, longitudes: np.ndarray, latitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(columns, rows) of places in degrees."""
        longitudes = nearest_turn(longitudes, 0.0, 360)
        x, y = CoordinateTransform(LONGITUDE_LATITUDE, self.grid.crs)(longitudes, latitudes)
        if (turn := full_turn(self.grid.crs)) is not None:
            middle = self.grid.transform @ (self.grid.width / 2, self.grid.height / 2)
            x = nearest_turn(x, middle[0], turn)
        with np.errstate(invalid="ignore"):  # infinite outside of the projection
            return ~self.grid.transform @ (x, y)
