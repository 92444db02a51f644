"""A grid of pixels: where it is, how large its pixels are, and whether another grid is the same."""

import functools
import math
import os
from dataclasses import dataclass, replace

import numpy as np
from pyproj import Geod
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster.crs import LONGITUDE_LATITUDE, CoordinateTransform, full_turn, same_crs

__all__ = [
    "Grid",
    "Orientation",
    "check_sampling_distance",
    "largest_offset",
    "lattice_offset",
    "nearest_turn",
    "pixels_to_map",
    "sample_windows",
    "unit_square",
]

MAX_COLUMNS = 2**19  # memory grows with the width of a scene, but not with its height
SAMPLE_SIDE, SAMPLE_WINDOWS = 128, 4  # side of a sampled window in pixels, and windows per side
SAME_PLACE = 0.5  # pixels, at each corner
ON_LATTICE = 1e-3  # pixels


@dataclass(frozen=True)
class Orientation:
    """The steps that turn the stored pixels of a file north-up, in this order.

    Attributes:
        transpose: Whether to swap rows and columns.
        flip_rows, flip_columns: Whether to reverse their order afterwards.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Turn stored pixels (H, W, ...); a view."""
        image = image.swapaxes(0, 1) if self.transpose else image
        return image[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def stored_window(
        self, row: int, column: int, height: int, width: int, stored_height: int, stored_width: int
    ) -> tuple[int, int, int, int]:
        """The (row, column, height, width) in the stored pixels of a window of the turned ones."""
        turned_height, turned_width = (stored_width, stored_height) if self.transpose else (stored_height, stored_width)
        row = turned_height - row - height if self.flip_rows else row
        column = turned_width - column - width if self.flip_columns else column
        return (column, row, width, height) if self.transpose else (row, column, height, width)


@dataclass(frozen=True)
class Grid:
    """A grid of pixels. Grids of files are north-up: columns run east and rows south, as nearly as the file allows.

    Attributes:
        width, height: In pixels.
        crs: Coordinate reference system; None if unknown.
        transform: From (column, row) of pixel corners to map coordinates; None without georeference.
    """

    width: int
    height: int
    crs: CRS | None = None
    transform: Affine | None = None

    @classmethod
    def north_up(cls, width: int, height: int, crs: CRS | None, transform: Affine | None) -> tuple["Grid", Orientation]:
        """The north-up grid of pixels that are stored in any order, and the orientation that turns them onto it."""
        if transform is None:
            return cls(width, height, crs, None), Orientation()
        transpose = abs(transform.a) + abs(transform.e) < abs(transform.b) + abs(transform.d)
        if transpose:
            transform @= Affine(0, 1, 0, 1, 0, 0)
            width, height = height, width
        flip_columns, flip_rows = transform.a < 0, transform.e > 0
        if flip_columns:
            transform @= Affine(-1, 0, width, 0, 1, 0)
        if flip_rows:
            transform @= Affine(1, 0, 0, 0, -1, height)
        return cls(width, height, crs, transform), Orientation(transpose, flip_rows, flip_columns)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def window(self, row: int, column: int, height: int, width: int) -> "Grid":
        """The grid of a window of this one."""
        transform = None if self.transform is None else self.transform @ Affine.translation(column, row)
        return Grid(width, height, self.crs, transform)

    @functools.cached_property
    def metres_per_pixel(self) -> tuple[float, float] | None:
        """Width and height of the middle pixel in metres on the ellipsoid; None if it is not on the Earth."""
        if self.transform is None:
            return None
        middle = np.array([self.width / 2, self.height / 2])
        # Ten pixels per side, to limit rounding errors.
        points = [self.transform @ tuple(middle + offset) for offset in ((-5, 0), (5, 0), (0, -5), (0, 5))]
        try:
            transform = CoordinateTransform(self.crs, LONGITUDE_LATITUDE)
        except DataError:
            return None
        longitudes, latitudes = transform(*np.transpose(points))
        if not np.isfinite([longitudes, latitudes]).all():
            return None
        _, _, sides = Geod(ellps="WGS84").inv(longitudes[::2], latitudes[::2], longitudes[1::2], latitudes[1::2])
        sides = (float(sides[0]) / 10, float(sides[1]) / 10)
        return sides if all(0 < side < math.inf for side in sides) else None

    @property
    def pixel_size_metres(self) -> float | None:
        """Side in metres of a square as large as the middle pixel; None if the grid is not on the Earth."""
        return None if self.metres_per_pixel is None else math.sqrt(math.prod(self.metres_per_pixel))

    def at_sampling_distance(self, distance: float | None, name: str | os.PathLike) -> "Grid":
        """The grid of the same extent with square pixels of the given size.

        Args:
            distance: Metres per pixel; None keeps the pixels as they are.
            name: Name of the raster, for messages.

        Raises:
            ConfigError: The distance is not positive, or the size of the pixels is unknown.
            DataError: The grid is more than half a million pixels wide.
        """
        grid = self
        if distance is not None:
            check_sampling_distance(distance)
            if self.metres_per_pixel is None:
                raise ConfigError(
                    f"{name} does not say how large its pixels are on the ground, so it cannot be resampled to "
                    f"{distance} m; leave --gsd out, or georeference the file."
                )
            width, height = (
                max(1, round(size * own / distance))
                for size, own in zip((self.width, self.height), self.metres_per_pixel, strict=True)
            )
            scale = Affine.scale(self.width / width, self.height / height)
            grid = replace(self, width=width, height=height, transform=self.transform @ scale)
        if grid.width > MAX_COLUMNS:
            raise DataError(
                f"{name} has {grid.width} pixels per row, more than {MAX_COLUMNS}; cut it, or use larger pixels."
            )
        return grid

    def outline(self, segments: int = 1) -> np.ndarray:
        """Map coordinates (4 * segments, 2) around the grid, clockwise from its first corner."""
        return pixels_to_map(self.transform, unit_square(segments) * (self.width, self.height))


def check_sampling_distance(distance: float | None) -> None:
    """Check that a ground sampling distance is None or a positive number of metres.

    Raises:
        ConfigError: It is not.
    """
    if distance is not None and not 0 < distance < math.inf:
        raise ConfigError(f"The ground sampling distance is {distance}; give metres per pixel.")


def unit_square(segments: int) -> np.ndarray:
    """Points (4 * segments, 2) around the square from (0, 0) to (1, 1), first to the right, then down."""
    along, zeros = np.arange(segments) / segments, np.zeros(segments)
    columns = np.concatenate([along, zeros + 1, 1 - along, zeros])
    return np.stack([columns, np.roll(columns, segments)], axis=1)


def pixels_to_map(transform: Affine | None, points: np.ndarray) -> np.ndarray:
    """Map coordinates (..., 2) of pixel coordinates (..., 2), column and row; unchanged without a transform."""
    return np.stack((transform or Affine.identity()) @ (points[..., 0], points[..., 1]), axis=-1)


def nearest_turn(longitudes: np.ndarray, others: np.ndarray | float, turn: float) -> np.ndarray:
    """Longitudes shifted by whole turns of the globe to within half a turn of others."""
    return longitudes - turn * np.round((longitudes - others) / turn)


def largest_offset(first: Grid, second: Grid, names: tuple[str, str]) -> float:
    """The largest distance between corresponding corners along an axis, in pixels of the first grid.

    Both must have a transform. A grid without a reference system is assumed to have that of the other.

    Raises:
        DataError: One reference system cannot be transformed to the other.
    """
    corners = second.outline()
    if first.crs is not None and second.crs is not None and not same_crs(first.crs, second.crs):
        transform = CoordinateTransform(second.crs, first.crs, names=(names[1], names[0]))
        corners = np.stack(transform(*corners.T), axis=1)
    if (turn := full_turn(first.crs)) is not None:
        corners[:, 0] = nearest_turn(corners[:, 0], first.outline()[:, 0], turn)
    columns, rows = ~first.transform @ tuple(corners.T)
    expected = Grid(first.width, first.height).outline()
    offsets = np.abs(np.stack([columns, rows], axis=1) - expected)
    return float(offsets.max()) if np.isfinite(offsets).all() else math.inf


def lattice_offset(base: Grid, grid: Grid) -> tuple[int, int] | None:
    """(columns, rows) of whole pixels from a grid's first corner to that of another on the same lattice of pixels.

    None if they are on different ones; both must have a transform.
    """
    if not same_crs(base.crs, grid.crs):
        return None
    column, row = ~base.transform @ (grid.transform.c, grid.transform.f)
    if max(abs(column - round(column)), abs(row - round(row))) > ON_LATTICE:
        return None
    sizes = np.subtract(_linear(grid.transform), _linear(base.transform))
    far = np.abs(sizes).max() * max(grid.width, grid.height) > ON_LATTICE * abs(base.transform.a)
    return None if far else (round(column), round(row))


def _linear(transform: Affine) -> tuple[float, ...]:
    return (transform.a, transform.b, transform.d, transform.e)


def sample_windows(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """A few windows (row, column, height, width) spread over a raster, as a sample; a small raster is one window."""
    side = SAMPLE_SIDE if max(height, width) > SAMPLE_SIDE * SAMPLE_WINDOWS else max(height, width)
    sides = min(side, height), min(side, width)
    rows, columns = (
        sorted({round(place) for place in np.linspace(0, whole - part, SAMPLE_WINDOWS)})
        for whole, part in ((height, sides[0]), (width, sides[1]))
    )
    return [(row, column, *sides) for row in rows for column in columns]
