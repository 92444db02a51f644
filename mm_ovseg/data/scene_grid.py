"""The pixel grid on which a scene is segmented, and how much of it a second raster covers."""

import math
import os
from dataclasses import dataclass

import numpy as np
import rasterio
from pyproj import CRS as ProjCRS
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_coordinates

from mm_ovseg.errors import ConfigError, DataError

__all__ = [
    "SceneGrid",
    "check_on_grid",
    "check_sampling_distance",
    "covered_share",
    "pixel_size_metres",
    "scene_grid",
]

MOST_COLUMNS = 2**19  # memory grows with the width of a scene, though not with its height
POINTS_A_SIDE = 33  # of the lattice on which coverage is estimated


@dataclass(frozen=True)
class SceneGrid:
    """A grid of pixels.

    Attributes:
        width, height: pixels.
        crs: coordinate reference system; None where the scene has none.
        transform: (column, row) of pixel corners -> map coordinates; None without georeference.
    """

    width: int
    height: int
    crs: CRS | None
    transform: Affine | None


def check_on_grid(dataset: rasterio.DatasetReader, name: str | os.PathLike) -> None:
    """Check that a raster's pixels form a grid on the ground, or in no place at all.

    Raises:
        DataError: it is placed by ground control points only, or its pixels have no extent.
    """
    if dataset.gcps[0] and dataset.transform.is_identity:
        raise DataError(f"{name} is placed by ground control points only; put it on a grid first (gdalwarp does so).")
    if dataset.transform.determinant == 0:
        raise DataError(f"{name} has a geotransform that maps its pixels onto a line; georeference it anew.")


def check_sampling_distance(distance: float | None) -> None:
    """Check that a ground sampling distance is None or so many metres.

    Raises:
        ConfigError: it is not.
    """
    if distance is not None and not 0 < distance < math.inf:
        raise ConfigError(f"The ground sampling distance is {distance}; give metres a pixel.")


def scene_grid(
    dataset: rasterio.DatasetReader, name: str | os.PathLike, ground_sampling_distance: float | None = None
) -> SceneGrid:
    """The grid of a raster, or one of the same extent with pixels of another size.

    Args:
        dataset: the RGB raster.
        name: what messages call it.
        ground_sampling_distance: metres a pixel; None keeps the raster's own.

    Raises:
        ConfigError: the distance is not positive, or the raster's own cannot be told.
        DataError: as of :func:`check_on_grid`, or the grid is more than half a million pixels wide.
    """
    check_on_grid(dataset, name)
    transform = None if dataset.transform.is_identity else dataset.transform
    grid = SceneGrid(dataset.width, dataset.height, dataset.crs, transform)
    if ground_sampling_distance is None:
        return _checked_width(grid, name)
    check_sampling_distance(ground_sampling_distance)
    own = pixel_size_metres(grid)
    if own is None or not 0 < own < math.inf:
        raise ConfigError(
            f"{name} does not say how large its pixels are on the ground, so it cannot be resampled to "
            f"{ground_sampling_distance} m; leave --gsd out, or georeference the file."
        )
    width, height = (max(1, round(size * own / ground_sampling_distance)) for size in (grid.width, grid.height))
    scaled = grid.transform @ Affine.scale(grid.width / width, grid.height / height)
    return _checked_width(SceneGrid(width, height, grid.crs, scaled), name)


def _checked_width(grid: SceneGrid, name: str | os.PathLike) -> SceneGrid:
    if grid.width > MOST_COLUMNS:
        raise DataError(
            f"{name} gives {grid.width} pixels a row, more than {MOST_COLUMNS}; cut it, or use larger pixels."
        )
    return grid


def pixel_size_metres(grid: SceneGrid) -> float | None:
    """Side of a square as large as the grid's middle pixel, in metres on the ellipsoid; None where it has no place."""
    if grid.crs is None or grid.transform is None:
        return None
    middle = np.array([grid.width / 2, grid.height / 2])
    # Ten pixels a side, for the sake of rounding.
    corners = [grid.transform @ tuple(middle + offset) for offset in ((-5, -5), (5, -5), (5, 5), (-5, 5))]
    try:
        to_degrees = Transformer.from_crs(ProjCRS.from_wkt(grid.crs.to_wkt()), "OGC:CRS84", always_xy=True)
        longitudes, latitudes = to_degrees.transform(*np.transpose(corners), errcheck=True)
    except ProjError:
        return None
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(longitudes, latitudes)
    return math.sqrt(abs(area)) / 10


def covered_share(grid: SceneGrid, dataset: rasterio.DatasetReader, transform: Affine) -> float:
    """The share of a grid that another raster's extent covers, 0..1, estimated on a lattice of points.

    Args:
        grid: with a coordinate reference system.
        dataset: the raster, with one too.
        transform: what to take for the raster's own transform.
    """
    columns, rows = np.meshgrid(
        (np.arange(POINTS_A_SIDE) + 0.5) / POINTS_A_SIDE * grid.width,
        (np.arange(POINTS_A_SIDE) + 0.5) / POINTS_A_SIDE * grid.height,
    )
    x, y = grid.transform @ (columns.ravel(), rows.ravel())
    try:
        x, y = (np.asarray(values) for values in transform_coordinates(grid.crs, dataset.crs, x, y))
    except (RasterioError, CPLE_BaseError):  # no way from one reference system to the other
        return 0.0
    columns, rows = ~transform @ (x, y)
    inside = (rows >= 0) & (rows < dataset.height) & (columns >= 0) & (columns < dataset.width)
    return float(inside.mean())
