"""The area of interest of a scene: polygons of a vector file on the scene's grid."""

import logging
import os
from dataclasses import replace

import numpy as np
import shapely
from rasterio import Affine
from rasterio.features import rasterize

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid
from mm_ovseg.raster.vector import format_left_out, read_polygons

__all__ = ["SceneArea"]

ROWS_AT_ONCE = 512

logger = logging.getLogger(__name__)


class SceneArea:
    """Polygons of a vector file in any format and coordinate reference system.

    Args:
        path: the file; GeoJSON is in longitude and latitude unless it says otherwise.
        grid: grid of the scene.
        layer: name of the layer; None if the file has only one.

    Raises:
        DataError: the file cannot be read or placed on the grid, holds no polygon, or marks no pixel of the scene.
    """

    def __init__(self, path: str | os.PathLike, grid: Grid, layer: str | None = None) -> None:
        polygons = read_polygons(path, grid, layer=layer, layer_option="--aoi-layer")
        self._grid = replace(grid, transform=grid.transform or Affine.identity())
        self._polygons = polygons.geometries
        self._tree = shapely.STRtree(self._polygons)
        left_out = format_left_out(polygons.left_out)
        hint = f"; left out: {left_out}" if left_out else ""
        if not len(self._polygons):
            what = "has no polygons in the scene" if left_out else "is outside the scene"
            raise DataError(f"The area in {path} {what}{hint}; give polygons that overlap it.")
        stripes = range(0, grid.height, ROWS_AT_ONCE)
        if not any(self.rows(top, min(ROWS_AT_ONCE, grid.height - top)).any() for top in stripes):
            raise DataError(
                f"The area in {path} contains the centre of no pixel of the scene{hint}; give a larger area, or one "
                "that overlaps the scene."
            )
        if left_out:
            logger.warning("%s: left out of the area: %s.", path, left_out)

    def rows(self, start: int, count: int) -> np.ndarray:
        """Bool (count, W): the pixels of some rows of the scene whose centres are in the area."""
        stripe = self._grid.window(start, 0, count, self._grid.width)
        near = self._polygons[np.sort(self._tree.query(shapely.Polygon(stripe.outline())))]
        if not len(near):
            return np.zeros(stripe.shape, dtype=bool)
        return rasterize(near, out_shape=stripe.shape, transform=stripe.transform, dtype="uint8").astype(bool)
