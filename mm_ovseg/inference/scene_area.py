"""The area of interest of a scene: polygons of a vector file on the scene's grid."""

import logging
import os

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
    """Polygons of a vector file of any format and reference system.

    Args:
        path: the file; GeoJSON is in longitude and latitude unless it says otherwise.
        grid: of the scene.
        layer: its name; None where the file has only one.

    Raises:
        DataError: the file cannot be read or placed on the grid, holds no polygon, or marks no pixel of the scene.
    """

    def __init__(self, path: str | os.PathLike, grid: Grid, layer: str | None = None) -> None:
        polygons = read_polygons(path, grid, layer=layer, layer_option="--aoi-layer")
        self._grid, self._transform = grid, grid.transform or Affine.identity()
        self._polygons = polygons.geometries
        self._tree = shapely.STRtree(self._polygons)
        left_out = format_left_out(polygons.left_out)
        hint = f"; left out of it: {left_out}" if left_out else ""
        if not len(self._polygons):
            what = "has no polygons in the scene" if left_out else "lies outside the scene"
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
        width = self._grid.width
        transform = self._transform @ Affine.translation(0, start)
        stripe = shapely.Polygon(transform @ corner for corner in ((0, 0), (width, 0), (width, count), (0, count)))
        near = self._polygons[np.sort(self._tree.query(stripe))]
        if not len(near):
            return np.zeros((count, width), dtype=bool)
        return rasterize(near, out_shape=(count, width), transform=transform, dtype="uint8").astype(bool)
