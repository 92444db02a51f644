"""The part of a map that a model was trained on."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio.features
import shapely
from rasterio import Affine

from mm_ovseg.data.rgb_sar_dataset import is_raster_file
from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, read_raster_info
from mm_ovseg.raster.crs import CoordinateTransform, full_turn
from mm_ovseg.raster.grid import nearest_turn

__all__ = ["TrainingArea"]

SEGMENTS = 8  # per side of an image, since what is straight in one projection is curved in another


class TrainingArea:
    """The pixels of a map that training images or labels cover.

    Args:
        grid: grid of the map.
        paths: georeferenced rasters, and folders that contain some.

    Raises:
        DataError: a file is not a raster or not georeferenced, or a folder holds none.
    """

    def __init__(self, grid: Grid, paths: Sequence[str | os.PathLike]) -> None:
        outlines = [_outline(file, grid) for path in paths for file in _rasters(Path(path))]
        self._outlines = shapely.union_all([outline for outline in outlines if outline is not None])

    def mask(self, top: int, height: int, width: int) -> np.ndarray:
        """Where the rows from ``top`` on are in the area, bool (height, width)."""
        here = shapely.intersection(self._outlines, shapely.box(0, top, width, top + height))
        polygons = [part for part in shapely.get_parts(here) if part.geom_type == "Polygon"]
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        shift = Affine.translation(0, top)
        return rasterio.features.rasterize(polygons, (height, width), transform=shift, dtype="uint8").astype(bool)

    def contains(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether pixels (N,) are in it."""
        return shapely.contains_xy(self._outlines, columns + 0.5, rows + 0.5)


def _rasters(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(file for file in path.rglob("*") if is_raster_file(file))
    if not files:
        raise DataError(f"{path} holds no rasters; give the folder of the training labels to --training.")
    yield from files


def _outline(path: Path, grid: Grid) -> shapely.Polygon | None:
    """In pixels of the map; None if the map's projection does not show it."""
    own = read_raster_info(path).grid
    if own.transform is None:
        raise DataError(f"{path} is not georeferenced, so its place in the map is unknown; leave it out of --training.")
    x, y = CoordinateTransform(own.crs, grid.crs, (str(path), "the map"))(*own.outline(SEGMENTS).T)
    if (turn := full_turn(grid.crs)) is not None:
        x = nearest_turn(x, (grid.transform @ (grid.width / 2, grid.height / 2))[0], turn)
    points = np.stack(~grid.transform @ (x, y), axis=1)
    return shapely.make_valid(shapely.Polygon(points)) if np.isfinite(points).all() else None
