"""Placements of images without a geotransform, such as radar images, which another mapping places on the ground."""

import math
from collections.abc import Callable

import numpy as np

from mm_ovseg.raster.grid import Grid
from mm_ovseg.raster.placement import Placement

__all__ = ["MappedPlacement"]


class MappedPlacement(Placement):
    """Maps the pixels of a target grid to positions in an image by a smooth function of map coordinates.

    Args:
        source: Size of the image.
        target: The grid; its pixels are about as large as those of the image, which are interpolated, not averaged.
        mapping: x and y, of any shape -> columns and rows of the image, 0.5 being the centre of its first pixel; NaN
            where it has no position.

    Attributes:
        covered: NaN; it is not measured.
    """

    def __init__(
        self, source: Grid, target: Grid, mapping: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    ) -> None:
        self.source, self.target, self._mapping = source, target, mapping
        self.is_identity, self._affine = False, None
        self.pixels, self.covered = (1.0, 1.0), math.nan

    def _exact(self, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._mapping(*(self.target.transform @ (columns, rows)))
