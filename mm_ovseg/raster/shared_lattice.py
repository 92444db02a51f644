"""One lattice of pixels for rasters on several, and the part of it that an area needs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from rasterio import Affine

from mm_ovseg.errors import DataError
from mm_ovseg.raster.crs import CoordinateTransform
from mm_ovseg.raster.grid import Grid, lattice_offset
from mm_ovseg.raster.vector import read_polygons

__all__ = ["AREA_MARGIN", "SharedLattice"]

AREA_MARGIN = 128  # pixels around an area, which a model sees beside it
OUTLINE_SEGMENTS = 64  # per side, since what is straight in one projection is curved in another
ROUNDING = 1e-6  # pixels
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels of the lattice


class SharedLattice:
    """The lattice of those grids that hold most of an area, or of the most ground without one.

    Args:
        grids: Grids with a transform.
        area, area_layer: Vector file and layer; None for everything, or if it has only one.

    Attributes:
        is_of_all: Whether all grids are on it.

    Raises:
        DataError: The area cannot be read, or no grid holds any of it; or a reference system cannot be transformed.
    """

    def __init__(self, grids: Sequence[Grid], area: Path | None = None, area_layer: str | None = None) -> None:
        self._grids, self._area, self._layer = grids, area, area_layer
        kinds: list[Grid] = []
        for grid in grids:
            if all(lattice_offset(kind, grid) is None for kind in kinds):
                kinds.append(grid)
        self._base, self.is_of_all = kinds[0], len(kinds) == 1
        if not self.is_of_all:
            ground = [
                sum(self._ground(grid) for grid in grids if lattice_offset(kind, grid) is not None) for kind in kinds
            ]
            self._base = kinds[int(np.argmax(ground))]  # the first of equals
        self._extents = [self._extent(grid) for grid in grids]
        self._needed = self._around_area()

    def parts(self) -> list[Grid | None]:
        """What is needed of each grid, on the lattice; None for nothing."""
        found = []
        for left, top, right, bottom in self._extents:
            left, top = max(left, self._needed[0]), max(top, self._needed[1])
            right, bottom = min(right, self._needed[2]), min(bottom, self._needed[3])
            is_needed = left < right and top < bottom
            found.append(self._base.window(top, left, bottom - top, right - left) if is_needed else None)
        return found

    def _ground(self, grid: Grid) -> float:
        """Square metres of a grid, or of the area in it."""
        pixels = grid.width * grid.height
        if self._area is not None:
            polygons = read_polygons(self._area, grid, layer=self._layer, layer_option="--aoi-layer")
            pixels = shapely.area(polygons.geometries).sum() / abs(grid.transform.determinant)
        return pixels * (grid.pixel_size_metres or 1.0) ** 2

    def _extent(self, grid: Grid) -> Box:
        """The extent of a grid in whole pixels, grown outwards."""
        if (offset := lattice_offset(self._base, grid)) is not None:
            return (*offset, offset[0] + grid.width, offset[1] + grid.height)
        x, y = CoordinateTransform(grid.crs, self._base.crs)(*grid.outline(OUTLINE_SEGMENTS).T)
        return self._around(x, y)

    def _around(self, x: np.ndarray, y: np.ndarray) -> Box:
        """The smallest box around points in map coordinates."""
        columns, rows = ~self._base.transform @ (x, y)
        if not (np.isfinite(columns).all() and np.isfinite(rows).all()):
            raise DataError("The images are too far apart to be joined on one grid; map them one by one.")
        first, last = np.floor([columns.min() + ROUNDING, rows.min() + ROUNDING]), [columns.max(), rows.max()]
        return (*first.astype(int).tolist(), *np.ceil(np.subtract(last, ROUNDING)).astype(int).tolist())

    def _around_area(self) -> Box:
        left, top = np.min(self._extents, axis=0)[:2].tolist()
        right, bottom = np.max(self._extents, axis=0)[2:].tolist()
        if self._area is None:
            return left, top, right, bottom
        whole = Grid(right - left, bottom - top, self._base.crs, self._base.transform @ Affine.translation(left, top))
        polygons = read_polygons(self._area, whole, layer=self._layer, layer_option="--aoi-layer").geometries
        if not len(polygons):
            raise DataError(f"The area in {self._area} is outside of the images; give images that cover it.")
        west, south, east, north = shapely.total_bounds(polygons)
        box = self._around(np.array([west, west, east, east]), np.array([south, north, south, north]))
        box = np.add(box, (-AREA_MARGIN, -AREA_MARGIN, AREA_MARGIN, AREA_MARGIN)).tolist()
        return max(box[0], left), max(box[1], top), min(box[2], right), min(box[3], bottom)
