"""Reading windows of a scene: RGB, SAR or both on one grid, whatever the grids of their files."""

from contextlib import ExitStack

import numpy as np
import rasterio

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, Paths, Placement, RasterSource, RGBReader, SARReader
from mm_ovseg.raster.image_reader import Window

__all__ = ["SceneSource", "place_raster"]

GDAL_CACHE_BYTES = 256 << 20


class SceneSource:
    """An RGB and a SAR raster, or one of them, open for reading windows on one grid; a context manager.

    The grid is that of RGB (of SAR in a scene without RGB), or one of the same extent at another ground sampling
    distance. A raster on another grid is resampled window by window: bilinearly, or averaged (SAR in linear power) if
    the grid's pixels are larger than its own. Not thread-safe.

    Args:
        rgb: The file, or several on one grid whose bands are joined, such as red, green and blue; None for a scene
            without RGB.
        sar: The file, or several, on any grid; None for a scene without SAR.
        rgb_reader, sar_reader: Readers of the images.
        ground_sampling_distance: Metres per pixel of the grid; None for the raster's own pixels.
        sar_shift: (rows, columns) in grid pixels by which SAR content is moved down and right.
        part: (row, column, height, width) of the grid to read alone, with the pixels of the whole; None for the whole.
        any_format: See :func:`mm_ovseg.raster.open_raster`.

    Attributes:
        grid: The grid, or that of the part.
        covered: Share of the whole grid that the extent of SAR covers, 0..1.

    Raises:
        ConfigError: The sampling distance is invalid.
        DataError: No image is given, a file cannot be read, SAR cannot be placed on the grid of RGB, or the part is not
            within it.
    """

    def __init__(
        self,
        rgb: Paths | None,
        sar: Paths | None,
        *,
        rgb_reader: RGBReader | None = None,
        sar_reader: SARReader | None = None,
        ground_sampling_distance: float | None = None,
        sar_shift: tuple[float, float] = (0.0, 0.0),
        part: Window | None = None,
        any_format: bool = False,
    ) -> None:
        self._rgb_reader, self._sar_reader = rgb_reader or RGBReader(), sar_reader or SARReader()
        if rgb is None and sar is None:
            raise DataError("The scene has no image; give RGB, SAR or both.")
        self.covered = 0.0
        self._stack = ExitStack()
        try:
            self._stack.enter_context(rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES))
            self._rgb, self._sar = (
                None if files is None else self._stack.enter_context(RasterSource(files, any_format=any_format))
                for files in (rgb, sar)
            )
            self._base = self._sar if self._rgb is None else self._rgb
            self.grid = self._base.grid.at_sampling_distance(ground_sampling_distance, self._base.name)
            self._base_placement = Placement(self._base.grid, self.grid)
            if self._sar is not None:
                self._sar_placement = self._base_placement if self._rgb is None else self.place(self._sar, sar_shift)
                self.covered = self._sar_placement.covered
            row, column, height, width = part or (0, 0, *self.grid.shape)
            rows, columns = self.grid.shape
            if not (0 <= row < row + height <= rows and 0 <= column < column + width <= columns):
                raise DataError(
                    f"The part {tuple(part)} (row, column, height, width) is not within {self._base.name}, which has "
                    f"{rows} rows of {columns} pixels; give another part."
                )
            self._origin = row, column
            self.grid = self.grid.window(row, column, height, width)
            for reader, source in ((self._rgb_reader, self._rgb), (self._sar_reader, self._sar)):
                if source is not None:
                    reader.read(source, (0, 0, 1, 1))  # to raise the errors of its settings
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "SceneSource":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def read(self, row: int, column: int, height: int, width: int) -> PairSample:
        """Read a window; pixels beyond the last row and column of the scene are 0 and invalid.

        Raises:
            DataError: A block of a file cannot be read.
        """
        inside = (min(height, self.grid.height - row), min(width, self.grid.width - column))
        window = (row, column, *inside)
        image, image_valid = self.read_rgb(window)
        sar_image, sar_valid = self.read_sar(window)
        arrays = (image, image_valid, sar_image, sar_valid)
        if inside != (height, width):
            padding = ((0, height - inside[0]), (0, width - inside[1]), (0, 0))
            arrays = [np.pad(array, padding[: array.ndim]) for array in arrays]
        return PairSample(*arrays)

    def read_rgb(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read RGB, uint8 (H, W, 3), and where it is valid, bool (H, W), in a window within the grid; see :meth:`read`.

        Without RGB, nothing is valid.
        """
        if self._rgb is None:
            return np.zeros((*window[2:], 3), np.uint8), np.zeros(window[2:], bool)
        return self._rgb_reader.read_onto(self._rgb, self._base_placement, self._in_whole(window))

    def read_sar(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read SAR, float32 (H, W, 3), and where it is valid; see :meth:`read_rgb`."""
        if self._sar is None:
            return np.zeros((*window[2:], 3), np.float32), np.zeros(window[2:], bool)
        return self._sar_reader.read_onto(self._sar, self._sar_placement, self._in_whole(window))

    def _in_whole(self, window: Window) -> Window:
        row, column, height, width = window
        return (row + self._origin[0], column + self._origin[1], height, width)

    @property
    def sar_name(self) -> str:
        """The SAR raster's name for messages; "" if there is none."""
        return "" if self._sar is None else self._sar.name

    def concerns(self) -> list[str]:
        """Warnings about the files, as sentences; see :meth:`mm_ovseg.raster.ImageReader.concerns`."""
        given = ((self._rgb_reader, self._rgb), (self._sar_reader, self._sar))
        return [concern for reader, raster in given if raster is not None for concern in reader.concerns(raster)]

    def place(self, other: RasterSource, shift: tuple[float, float] = (0.0, 0.0)) -> Placement:
        """The placement of the grid's pixels on another raster, such as labels.

        Args:
            other: The raster. If it or the scene's own has no reference system or georeference, it is assumed to match
                that.
            shift: (rows, columns) in grid pixels by which its content is moved down and right.

        Raises:
            DataError: It cannot be put on the grid.
        """
        return place_raster(other, self._base, self.grid, shift)


def place_raster(
    other: RasterSource, base: RasterSource, grid: Grid, shift: tuple[float, float] = (0.0, 0.0)
) -> Placement:
    """The placement of the pixels of a grid on a raster.

    Args:
        other: The raster. If it or the base has no reference system or georeference, it is assumed to match that.
        base: The raster that the grid belongs to.
        grid: The base's own, or one of the same extent.
        shift: (rows, columns) in grid pixels by which the content of ``other`` is moved down and right.

    Raises:
        DataError: It cannot be put on the grid.
    """
    unplaced = [raster.name for raster in (base, other) if None in (raster.grid.crs, raster.grid.transform)]
    if unplaced:
        remedy = (
            f"georeference {' and '.join(unplaced)} (gdal_edit -a_srs, -a_ullr), so that one can be put on the "
            "other's grid"
        )
        base.align(other, remedy)
    return Placement(other.grid, grid, shift, (other.name, base.name))
