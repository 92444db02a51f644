"""The positions of one grid's pixels on another grid, for any reference systems, directions and sizes."""

import functools
import math

import numpy as np
from rasterio import Affine

from mm_ovseg.raster.crs import CoordinateTransform, full_turn, same_crs
from mm_ovseg.raster.grid import SAME_PLACE, Grid, largest_offset, nearest_turn

__all__ = ["CELL", "Placement"]

# Projections are smooth: where exact enough, coordinates are interpolated between points this far apart.
CELL = 32  # pixels of the target
TOLERANCE = 1e-3  # pixels of the source
DECIMALS = 6  # of pixels, so that a position at a pixel's centre stays there
PROBES = 9  # per side of the lattice on which coverage and pixel sizes are measured


class Placement:
    """Maps the pixels of a target grid to positions in a source grid.

    The position of a pixel depends on the two grids alone, not on the window that is asked for.

    Args:
        source, target: The grids. If one has no transform, or neither has a reference system, they share one plane.
        shift: (rows, columns) in target pixels by which the source's content is moved down and right.
        names: Names of the source's and the target's file, for messages.

    Attributes:
        is_identity: Whether the two grids are the same, so that nothing needs to be resampled.
        pixels: Source pixels that a target pixel spans, (columns, rows).
        covered: Share of the target that the source's extent covers, 0..1, estimated on a lattice.

    Raises:
        DataError: One reference system cannot be transformed to the other.
    """

    def __init__(
        self,
        source: Grid,
        target: Grid,
        shift: tuple[float, float] = (0.0, 0.0),
        names: tuple[str, str] = ("the source", "the target"),
    ) -> None:
        self.source, self.target, self._shift, self._names = source, target, shift, names
        are_placed = None not in (source.transform, target.transform)
        one_plane = not are_placed or source.crs is None or target.crs is None
        is_same = source.shape == target.shape and (
            not are_placed or largest_offset(target, source, names[::-1]) <= SAME_PLACE
        )
        self.is_identity = is_same and shift == (0.0, 0.0)
        self._turn, self._affine, self._transform = None, None, None
        if is_same:
            self._affine = Affine.translation(-shift[1], -shift[0])
        else:
            self._to_source = ~(source.transform or Affine.identity())
            self._to_map = (target.transform or Affine.identity()) @ Affine.translation(-shift[1], -shift[0])
            if not one_plane:
                self._transform = CoordinateTransform(target.crs, source.crs, names=names[::-1])
                self._turn = full_turn(source.crs)
            if one_plane or (self._turn is None and same_crs(source.crs, target.crs)):
                self._affine = self._to_source @ self._to_map
            self._centre = (~self._to_source @ (source.width / 2, source.height / 2))[0]
        self.pixels, self.covered = self._measure()

    def coordinates(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the pixel centres of a window of the target.

        Returns:
            columns, rows: float64 (height, width), in pixels of the source, 0.5 being the centre of its first pixel;
            infinite or NaN where the projection has no position.
        """
        if self._affine is not None:
            centres = np.meshgrid(np.arange(column, column + width) + 0.5, np.arange(row, row + height) + 0.5)
            places = self._affine @ tuple(centres)
        else:
            places = self._interpolated(row, column, height, width)
        columns, rows = (np.round(axis, DECIMALS) for axis in places)
        return columns, rows

    def _exact(self, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of points of the target, of any shape."""
        if self._affine is not None:
            return self._affine @ (columns, rows)
        x, y = self._transform(*(self._to_map @ (columns, rows)))
        with np.errstate(invalid="ignore"):
            return self._to_source @ (x if self._turn is None else nearest_turn(x, self._centre, self._turn), y)

    def _interpolated(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of a window's pixels, bilinear within the cells of a lattice that is anchored at the target."""
        first_row, first_column = row // CELL, column // CELL
        cells = (-(-(row + height) // CELL) - first_row, -(-(column + width) // CELL) - first_column)
        # Twice as dense as the cells: a point in the middle alone would not show how a conformal map bends, as x² - y².
        lattice_rows, lattice_columns = (
            np.arange(first * 2, (first + count) * 2 + 1) * (CELL / 2)
            for first, count in zip((first_row, first_column), cells, strict=True)
        )
        lattice = np.stack(self._exact(*np.meshgrid(lattice_columns, lattice_rows)))
        nodes = lattice[:, ::2, ::2]  # (2, cells + 1, cells + 1)
        with np.errstate(invalid="ignore"):
            bent = ~(_bend(lattice) <= TOLERANCE)  # also where a position is not finite

        def along(start: int, length: int, first: int) -> tuple[np.ndarray, np.ndarray]:
            centres = np.arange(start, start + length) + 0.5 - first * CELL
            cell = (centres // CELL).astype(int)
            return cell, centres / CELL - cell

        row_cells, down = along(row, height, first_row)
        column_cells, right = along(column, width, first_column)
        with np.errstate(invalid="ignore"):  # of positions that are not finite, recomputed below
            # Along columns for each row of nodes, then along rows: (2, nodes, W) -> (2, H, W).
            lines = nodes[:, :, column_cells] * (1 - right) + nodes[:, :, column_cells + 1] * right
            down = down[:, np.newaxis]
            places = lines[:, row_cells] * (1 - down) + lines[:, row_cells + 1] * down
        for cell_row, cell_column in np.argwhere(bent):
            inside = np.ix_(np.flatnonzero(row_cells == cell_row), np.flatnonzero(column_cells == cell_column))
            points = np.meshgrid(inside[1].ravel() + column + 0.5, inside[0].ravel() + row + 0.5)
            places[0][inside], places[1][inside] = self._exact(*points)
        return places[0], places[1]

    def _measure(self) -> tuple[tuple[float, float], float]:
        """Source pixels that a target pixel spans along the axes of the source, and the share that is covered."""
        along = (np.arange(PROBES * 4 + 1) + 0.5) / (PROBES * 4 + 1)
        columns, rows = np.meshgrid(along * self.target.width, along * self.target.height)
        inside = self.contains(*self._exact(columns, rows))
        columns, rows = (axis[inside] if inside.any() else axis.ravel() for axis in (columns, rows))
        right, left = self._exact(columns + 0.5, rows), self._exact(columns - 0.5, rows)
        below, above = self._exact(columns, rows + 0.5), self._exact(columns, rows - 0.5)
        with np.errstate(invalid="ignore"):
            spans = [np.hypot(right[axis] - left[axis], below[axis] - above[axis]) for axis in (0, 1)]
        finite = [span[np.isfinite(span)] for span in spans]
        pixels = tuple(float(np.median(span)) if len(span) else 1.0 for span in finite)
        return pixels, float(inside.mean())

    @functools.cached_property
    def subpixels(self) -> "Placement":
        """The placement of the target with each pixel split into as many columns and rows as it is reduced by."""
        parts_x, parts_y = self.reduction
        target = Grid(
            self.target.width * parts_x,
            self.target.height * parts_y,
            self.target.crs,
            self.target.transform @ Affine.scale(1 / parts_x, 1 / parts_y),
        )
        return Placement(self.source, target, (self._shift[0] * parts_y, self._shift[1] * parts_x), self._names)

    @property
    def is_separable(self) -> bool:
        """Whether a pixel's source column depends on its column alone, and its source row on its row."""
        return self._affine is not None and self._affine.b == self._affine.d == 0

    def contains(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Whether positions are within the source's extent, edges included."""
        with np.errstate(invalid="ignore"):
            return (columns >= 0) & (columns <= self.source.width) & (rows >= 0) & (rows <= self.source.height)

    @property
    def reduction(self) -> tuple[int, int]:
        """(columns, rows) of source pixels that are averaged into one before the rest is interpolated."""
        return tuple(max(1, math.floor(span + 0.5)) for span in self.pixels)


def _bend(lattice: np.ndarray) -> np.ndarray:
    """The largest deviation from bilinear per cell (cells, cells) of a lattice (2, 2 * cells + 1, 2 * cells + 1)."""
    guess = lattice[:, ::2, ::2]
    for axis in (1, 2):
        guess = guess.swapaxes(0, axis)
        between = np.empty((2 * len(guess) - 1, *guess.shape[1:]))
        between[::2], between[1::2] = guess, (guess[:-1] + guess[1:]) / 2
        guess = between.swapaxes(0, axis)
    off = np.abs(lattice - guess).max(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(off, (3, 3))[::2, ::2]
    return windows.max(axis=(2, 3))
