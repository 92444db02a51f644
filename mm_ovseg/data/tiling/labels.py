"""Labels of a scene, window by window: from a raster on any grid, or from polygons."""

import os
from collections.abc import Mapping

import numpy as np
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.data.tiling.legend import IGNORED
from mm_ovseg.data.vector_file import LabelledPolygon, read_polygons
from mm_ovseg.raster import Grid, LabelReader, RasterSource

__all__ = ["PolygonLabels", "RasterLabels"]

UNWARPED = Affine.identity()


class RasterLabels:
    """A label raster, put on a scene's grid: the nearest pixel, or the mode where the grid's pixels are larger.

    Args:
        path: one band of whole numbers.
        grid: of the scene.
        table: value of a pixel -> class index or :data:`~mm_ovseg.data.tiling.legend.IGNORED`.
        scene: what messages call the scene.

    Raises:
        DataError: the file cannot be read, is not a label map, or cannot be put on the grid.
    """

    def __init__(self, path: str | os.PathLike, scene: SceneSource, table: Mapping[int, int]) -> None:
        self._reader = LabelReader(table, IGNORED)
        self._source = RasterSource(path, any_format=True)
        try:
            self._placement = scene.place(self._source)
            self._reader.read(self._source, (0, 0, 1, 1))  # for the errors of what is not a label map
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def read(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, dict[str, int]]:
        """Labels of a window within the grid.

        Returns:
            uint8 (H, W): class indices, and ignored where there is none; and value -> number of the file's pixels, of
            the values that the table does not have, which are ignored.

        Raises:
            DataError: a block cannot be read, or holds other than whole numbers.
        """
        labels, unknown = self._reader.read_onto(self._source, self._placement, (row, column, height, width))
        return labels, {str(value): count for value, count in sorted(unknown.items())}


class PolygonLabels:
    """Polygons, drawn on a scene's grid: a pixel has the label of the polygon in which its centre lies.

    Where polygons overlap, the smaller one counts: a lake in a forest stays a lake.

    Args:
        path, attribute, layer: as in :func:`~mm_ovseg.data.vector_file.read_polygons`.
        grid: of the scene.
        table: value of the attribute -> class index or :data:`~mm_ovseg.data.tiling.legend.IGNORED`; polygons of other
            values are not drawn.
        background: class index of pixels in no polygon; ignored by default.

    Raises:
        ConfigError, DataError: as of ``read_polygons``.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        grid: Grid,
        table: Mapping[str, int],
        *,
        attribute: str,
        layer: str | None = None,
        background: int = IGNORED,
    ) -> None:
        polygons = read_polygons(path, attribute, crs=grid.crs, layer=layer)
        known = [polygon for polygon in polygons if polygon.value in table]
        self._polygons: list[LabelledPolygon] = sorted(known, key=lambda polygon: -polygon.area)
        self._bounds = np.array([polygon.bounds for polygon in self._polygons]).reshape(-1, 4)
        self._transform = grid.transform or UNWARPED
        self._table, self._background = dict(table), background

    def close(self) -> None:
        """Nothing is open."""

    def read(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, dict[str, int]]:
        """Labels of a window, uint8 (H, W): class indices, and the background's elsewhere; and no unknown values."""
        window = Window(column, row, width, height)
        transform = window_transform(window, self._transform)
        corners = np.array([transform @ (x, y) for x in (0, window.width) for y in (0, window.height)])
        (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
        near = np.flatnonzero(
            (self._bounds[:, 0] < right)
            & (self._bounds[:, 2] > left)
            & (self._bounds[:, 1] < top)
            & (self._bounds[:, 3] > bottom)
        )
        shape = (window.height, window.width)
        if not len(near):
            return np.full(shape, self._background, dtype=np.uint8), {}
        drawn = [(self._polygons[index].geometry, self._table[self._polygons[index].value]) for index in near]
        return rasterize(drawn, out_shape=shape, fill=self._background, transform=transform, dtype="uint8"), {}
