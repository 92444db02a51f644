"""Labels of a scene from a raster on any grid, window by window."""

import os
from collections.abc import Mapping

import numpy as np
from rasterio import DatasetReader
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from mm_ovseg.data.raster_file import RasterInfo, check_same_grid, data_bands, open_raster, raster_errors, raster_info
from mm_ovseg.data.scene_grid import SceneGrid, check_on_grid
from mm_ovseg.data.tiling.legend import IGNORED
from mm_ovseg.errors import DataError
from mm_ovseg.raster.label_value import value_text

__all__ = ["RasterLabels"]


class RasterLabels:
    """A label raster, put on a scene's grid by the nearest pixel.

    Args:
        path: one band of whole numbers.
        grid: of the scene.
        table: value -> class index or :data:`~mm_ovseg.data.tiling.legend.IGNORED`.

    Raises:
        DataError: the file cannot be read, is no label map, or cannot be put on the grid.
    """

    def __init__(self, path: str | os.PathLike, grid: SceneGrid, table: Mapping[str, int]) -> None:
        self._path, self._table = path, dict(table)
        self._opened = open_raster(path)
        dataset = self._opened.__enter__()
        try:
            self._dataset = _on_grid(dataset, path, grid)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._opened.__exit__(None, None, None)

    def read(self, window: Window) -> tuple[np.ndarray, dict[str, int]]:
        """Labels of a window within the grid.

        Returns:
            uint8 (H, W): class indices, and ignored where there is none; and value -> number of pixels, of the values
            that the table does not have, which are ignored.

        Raises:
            DataError: a block cannot be read, or holds other than whole numbers.
        """
        with raster_errors(self._path):
            raw = self._dataset.read(1, window=window)
            valid = self._dataset.read_masks(1, window=window) > 0
        if raw.dtype.kind == "f":
            valid &= ~np.isnan(raw)
        labels = np.full(raw.shape, IGNORED, dtype=np.uint8)
        values, inverse, counts = np.unique(raw[valid], return_inverse=True, return_counts=True)
        if raw.dtype.kind == "f" and (values != np.rint(values)).any():
            raise DataError(f"{self._path} holds labels that are no whole numbers; a label map holds class numbers.")
        texts = [value_text(value.item()) for value in values]
        unknown = {text: int(count) for text, count in zip(texts, counts, strict=True) if text not in self._table}
        indices = np.array([self._table.get(text, IGNORED) for text in texts], dtype=np.uint8)
        labels[valid] = indices[inverse]
        return labels, unknown


def _on_grid(dataset: DatasetReader, path: str | os.PathLike, grid: SceneGrid) -> DatasetReader | WarpedVRT:
    """A label raster as it is where it lies on the grid, else resampled to it."""
    if len(data_bands(dataset)) != 1 or dataset.dtypes[0].startswith("complex"):
        raise DataError(
            f"{path} has {dataset.count} bands of {dataset.dtypes[0]}; a label map has one of whole numbers."
        )
    check_on_grid(dataset, path)
    own = raster_info(path, dataset)
    scene = RasterInfo(own.path, grid.width, grid.height, own.count, own.dtypes, grid.crs, grid.transform, own.nodata)
    try:
        check_same_grid(scene, own)
        return dataset
    except DataError as error:
        if grid.crs is None or dataset.crs is None:
            raise DataError(
                f"{path} does not lie on the scene's grid, and without a coordinate reference system in both it cannot "
                "be put there; georeference them."
            ) from error
    with raster_errors(path):
        options = {} if dataset.nodata is not None else {"add_alpha": True}
        return WarpedVRT(
            dataset,
            crs=grid.crs,
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            resampling=Resampling.nearest,
            tolerance=1e-3,  # pixels; GDAL's own 1/8 comes out differently in every window
            **options,
        )
