"""Labels of a scene from polygons, read window by window."""

import os

import numpy as np
import shapely
from rasterio import Affine
from rasterio.features import rasterize

from mm_ovseg.data.tile.label_values import IGNORED, Legend, value_text
from mm_ovseg.raster import Grid
from mm_ovseg.raster.vector import read_polygons

__all__ = ["PolygonLabels"]


class PolygonLabels:
    """Polygons rasterised on a scene's grid: a pixel has the label of the polygon that contains its centre.

    Where polygons overlap, the smaller one wins: a lake in a forest stays a lake.

    Args:
        path, attribute, layer: See :func:`~mm_ovseg.raster.vector.read_polygons`, also for the errors raised.
        grid: Grid of the scene.
        legend: Meaning of the attribute's values.
        background: Class index of pixels outside of all polygons; ignored by default.

    Attributes:
        left_out: Reason -> number of geometries that are not polygons or unusable.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        grid: Grid,
        legend: Legend,
        *,
        attribute: str,
        layer: str | None = None,
        background: int = IGNORED,
    ) -> None:
        polygons = read_polygons(path, grid, attribute=attribute, layer=layer)
        order = np.argsort(-polygons.areas, kind="stable")
        self._polygons = polygons.geometries[order]
        self._tree = shapely.STRtree(self._polygons)
        self.left_out = polygons.left_out
        # Values to rasterise: class indices, and beyond uint8 a number for each value without meaning.
        index_of = {value: legend.index_of(value) for value in dict.fromkeys(polygons.values)}
        self._unknown = sorted({value_text(value) for value, index in index_of.items() if index is None})
        numbers = {
            value: 256 + self._unknown.index(value_text(value)) if index is None else index
            for value, index in index_of.items()
        }
        self._drawn = np.array([numbers[polygons.values[index]] for index in order], dtype=np.int32)
        self._transform, self._background = grid.transform or Affine.identity(), background

    def close(self) -> None:
        """Do nothing: no file is open."""

    def read(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, dict[str, int]]:
        """Labels of a window within the grid.

        Returns:
            uint8 (H, W), class indices or ignored; and value -> number of pixels, for values missing in the legend.
        """
        transform, shape = self._transform @ Affine.translation(column, row), (height, width)
        corners = [transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
        near = np.sort(self._tree.query(shapely.Polygon(corners)))
        if not len(near):
            return np.full(shape, self._background, dtype=np.uint8), {}
        drawn = rasterize(
            zip(self._polygons[near], self._drawn[near], strict=True),
            out_shape=shape,
            fill=self._background,
            transform=transform,
            dtype="int32",
        )
        counts = np.bincount(drawn.ravel(), minlength=256)[256:]
        unknown = {self._unknown[number]: int(counts[number]) for number in np.flatnonzero(counts)}
        return np.where(drawn > 255, IGNORED, drawn).astype(np.uint8), unknown
