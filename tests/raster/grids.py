"""Grids of tiles in many reference systems, and what ground they share by GDAL's transformations of points."""

from collections.abc import Sequence

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from mm_ovseg.raster import Grid

DEGREES = CRS.from_epsg(4326)
ZONE_52 = CRS.from_epsg(32652)
ZONE_53 = CRS.from_epsg(32653)
RENAMED = CRS.from_wkt(ZONE_52.to_wkt().replace("WGS 84 / UTM zone 52N", "my own zone"))
WITH_HEIGHTS = CRS.from_string("EPSG:32652+5773")
LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
POLAR, OTHER_POLAR = CRS.from_epsg(3995), CRS.from_epsg(3413)
INSIDE = 0.75  # pixels from the edge, more than the rounding that neighbours are allowed


def tiles(crs, corner, *, columns=1, rows=1, size=16, pixel=10.0, overlap=0):
    """Tiles row by row, from an upper left corner in the system's coordinates."""
    step = (size - overlap) * pixel
    return [
        Grid(size, size, crs, Affine(pixel, 0, corner[0] + column * step, 0, -pixel, corner[1] - row * step))
        for row in range(rows)
        for column in range(columns)
    ]


def corner_in(crs: CRS, longitude: float, latitude: float) -> tuple[float, float]:
    """The coordinates of a place."""
    (x,), (y,) = transform(DEGREES, crs, [longitude], [latitude])
    return x, y


def shared_ground(first: Sequence[Grid], second: Sequence[Grid]) -> set[tuple[int, int]]:
    """Which grids of two lists share ground, by a lattice of points in each of both lists: pairs of indices."""
    found = {(other, index) for index, other in _covered(second, first)}
    return found | _covered(first, second)


def _covered(first: Sequence[Grid], second: Sequence[Grid]) -> set[tuple[int, int]]:
    found = set()
    lattice = np.stack(np.meshgrid(*[np.linspace(0, 1, 13)] * 2)).reshape(2, -1)
    for index, grid in enumerate(first):
        lengths = np.array([[grid.width], [grid.height]])
        x, y = grid.transform @ tuple(INSIDE + lattice * (lengths - 2 * INSIDE))
        points = {grid.crs: (x, y)}
        for other, candidate in enumerate(second):
            if candidate.crs not in points:
                points[candidate.crs] = tuple(map(np.array, transform(grid.crs, candidate.crs, x, y)))
            there_x, there_y = points[candidate.crs]
            turns = (-360, 0, 360) if candidate.crs.is_geographic else (0,)
            for turn in turns:
                columns, rows = ~candidate.transform @ (there_x + turn, there_y)
                inside = (columns > INSIDE) & (columns < candidate.width - INSIDE)
                if (inside & (rows > INSIDE) & (rows < candidate.height - INSIDE)).any():
                    found.add((index, other))
    return found
