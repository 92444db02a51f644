"""Labels of a scene from a raster on any grid, read window by window."""

import os
from collections.abc import Mapping

import numpy as np

from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.data.tile.label_values import IGNORED
from mm_ovseg.errors import DataError
from mm_ovseg.raster import LabelReader, RasterSource

__all__ = ["RasterLabels"]


class RasterLabels:
    """A label raster on a scene's grid: the nearest pixel, or the mode if the grid's pixels are larger.

    Args:
        path: A raster with one band of integers.
        scene: The scene.
        table: Value of a pixel -> class index or :data:`~mm_ovseg.data.tile.label_values.IGNORED`.

    Raises:
        DataError: The file cannot be read, is not a label map, or cannot be put on the grid.
    """

    def __init__(self, path: str | os.PathLike, scene: SceneSource, table: Mapping[int, int]) -> None:
        self._reader = LabelReader(table, IGNORED)
        try:
            self._source = RasterSource(path, any_format=True)
        except DataError as error:
            raise DataError(f"{error} Labels that are polygons need --attribute.") from error
        try:
            self._placement = scene.place(self._source)
            self._reader.read(self._source, (0, 0, 1, 1))  # to raise the errors of files that are not label maps
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def concerns(self) -> list[str]:
        """Warnings about the file, as sentences."""
        if not self._source.is_lossy:
            return []
        return [
            f"{self._source.name} is compressed as JPEG, which changes class numbers; tile a PNG or GeoTIFF "
            "written from the original instead."
        ]

    def read(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, dict[str, int]]:
        """Labels of a window within the grid.

        Returns:
            uint8 (H, W), class indices or ignored; and value -> number of pixels, for values missing in the table.

        Raises:
            DataError: A block cannot be read, or contains values that are not integers.
        """
        labels, unknown = self._reader.read_onto(self._source, self._placement, (row, column, height, width))
        return labels, {str(value): count for value, count in sorted(unknown.items())}
