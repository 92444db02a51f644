"""A raster that is open for reading: one file, or several whose bands are joined; north-up, with its validity."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from rasterio import DatasetReader
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from mm_ovseg.errors import DataError
from mm_ovseg.raster.band import Band, bands_of, equals_nodata, without_data
from mm_ovseg.raster.grid import Grid, Orientation, sample_windows
from mm_ovseg.raster.header import RESAMPLE, RESAMPLE_OR_SCENE, RasterInfo, check_on_grid, check_same_grid, raster_info
from mm_ovseg.raster.opening import open_raster, raster_errors
from mm_ovseg.raster.trust import check_whole_file

__all__ = ["RasterSource", "path_list"]

ROWS_AT_ONCE = 512  # a multiple of the tile height of our GeoTIFFs
Paths = str | os.PathLike | Sequence[str | os.PathLike]


def path_list(paths: Paths | None) -> list[str | os.PathLike]:
    """The files of a source, as a list; empty for None."""
    if paths is None:
        return []
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)


class RasterSource:
    """A raster, open for reading; a context manager.

    Everything that a file declares about validity counts: nodata values, masks in the file or beside it, an alpha band,
    and NaN. An alpha band does not count if it is read as data or holds measurements: GDAL reports near infrared as
    alpha in 8-bit files of four bands. Not thread-safe.

    Args:
        paths: The file, or several on one grid whose bands are joined in this order.
        any_format: See :func:`mm_ovseg.raster.opening.open_raster`.

    Attributes:
        name: Its name, for messages.
        info: Header; of several files, that of the first, with all bands.
        bands: All bands.

    Raises:
        DataError: No file is given, one cannot be opened or has no grid, or the files are on different grids.
    """

    def __init__(self, paths: Paths, *, any_format: bool = False) -> None:
        self._any_format = any_format
        self.paths = path_list(paths)
        if not self.paths:
            raise DataError("No file is given; give at least one.")
        others = ", ".join(Path(path).name for path in self.paths[1:])
        self.name = f"{self.paths[0]} (with {others})" if others else os.fspath(self.paths[0])
        self._stack = ExitStack()
        try:
            self._files = [self._stack.enter_context(open_raster(path, any_format=any_format)) for path in self.paths]
            infos = [raster_info(path, file) for path, file in zip(self.paths, self._files, strict=True)]
            check_on_grid(infos[0])
            for index, info in enumerate(infos[1:], start=1):
                check_same_grid(infos[0], info, RESAMPLE)
                infos[index] = _settled(infos[0], info)
        except BaseException:
            self.close()
            raise
        self._orientations = [info.orientation for info in infos]
        self._alphas: dict[int, int | None] = {}
        self.bands = tuple(band for index, file in enumerate(self._files) for band in bands_of(index, file))
        self.info = replace(
            infos[0],
            count=len(self.bands),
            dtypes=tuple(band.dtype for band in self.bands),
            nodata=tuple(band.nodata for band in self.bands),
        )

    def __enter__(self) -> "RasterSource":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    @property
    def grid(self) -> Grid:
        """Its north-up grid."""
        return self.info.grid

    @property
    def is_declared_valid(self) -> bool:
        """Whether no file declares pixels without data, by a nodata value, mask or alpha."""
        return all(band.nodata is None for band in self.bands) and not self.has_masks

    @property
    def has_masks(self) -> bool:
        """Whether a file declares pixels without data by a mask or alpha."""
        return any(self._masks_of(index) for index in range(len(self._files)))

    @property
    def is_lossy(self) -> bool:
        """Whether a file is compressed as JPEG, which changes values."""
        kinds = ((file.driver, file.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")) for file in self._files)
        return any(driver == "JPEG" or "JPEG" in compression for driver, compression in kinds)

    def align(self, other: "RasterSource", remedy: str = RESAMPLE_OR_SCENE) -> None:
        """Check that another source has the same grid, and give it this one's georeference if one of the two has none.

        Args:
            other: The other source.
            remedy: What the message suggests if the grids differ.

        Raises:
            DataError: See :func:`~mm_ovseg.raster.header.check_same_grid`.
        """
        check_same_grid(self.info, other.info, remedy)
        settled = _settled(self.info, other.info)
        if settled != other.info:
            other.info, other._orientations = settled, [settled.orientation] * len(other._files)

    def data_bands(self) -> list[int]:
        """The 1-based bands that are not alpha."""
        return [number for number, band in enumerate(self.bands, start=1) if band.meaning != ColorInterp.alpha]

    def color_bands(self) -> list[int]:
        """The 1-based bands of red, green and blue by colour interpretation, or else the first three at most."""
        bands = {band.meaning: number for number, band in enumerate(self.bands, start=1)}
        colors = [bands.get(color) for color in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
        return self.data_bands()[:3] if None in colors else colors

    def unit(self, bands: Sequence[int]) -> str:
        """The unit that the files declare for bands (:attr:`Band.unit`); "" if they declare none.

        Raises:
            DataError: They differ.
        """
        units = {self.bands[band - 1].unit for band in bands}
        if len(units) > 1:
            named = " and ".join(sorted(unit or "none" for unit in units))
            raise DataError(f"The bands of {self.name} declare different units ({named}); give bands of one unit.")
        return units.pop()

    def read(
        self,
        bands: Sequence[int],
        window: tuple[int, int, int, int] | None = None,
        dtype: str | None = None,
        *,
        nodata: bool = True,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the stored values of bands.

        Args:
            bands: 1-based.
            window: (row, column, height, width) on the grid; None for all of it.
            dtype: NumPy type of the result; None for one that can hold all bands.
            nodata: Whether pixels with a band's nodata value are invalid; :meth:`is_nodata` also finds them.

        Returns:
            values: (H, W, bands).
            valid: bool (H, W, bands); False where a nodata value, a mask, alpha or NaN says so. None if all are valid.

        Raises:
            DataError: A block cannot be read, the window exceeds the grid, or, without a window, the file has too many
                pixels.
        """
        if window is not None:
            row, column, height, width = window
            if not (0 <= row < row + height <= self.grid.height and 0 <= column < column + width <= self.grid.width):
                raise DataError(
                    f"The window {tuple(window)} (row, column, height, width) is not within {self.name}, which has "
                    f"{self.grid.height} rows of {self.grid.width} pixels."
                )
        chosen = [self.bands[band - 1] for band in bands]
        dtype = dtype or np.result_type(*(band.dtype for band in chosen)).name
        files = list(dict.fromkeys(band.file for band in chosen))
        parts = [
            self._read_file(file, [band for band in chosen if band.file == file], window, dtype, nodata)
            for file in files
        ]
        if len(parts) == 1:
            return parts[0]
        order = np.argsort([place for file in files for place, band in enumerate(chosen) if band.file == file])
        values = np.concatenate([values for values, _ in parts], axis=2)[..., order]
        if all(valid is None for _, valid in parts):
            return values, None
        known = [np.ones(values.shape, dtype=bool) if valid is None else valid for values, valid in parts]
        return values, np.concatenate(known, axis=2)[..., order]

    def strips(self, band: int) -> Iterator[tuple[int, np.ndarray]]:
        """The stored values of a band, from the first row to the last, about 512 rows at a time.

        Yields:
            The first row of a strip, and the strip (rows, W).

        Raises:
            DataError: A block cannot be read.
        """
        for row in range(0, self.grid.height, ROWS_AT_ONCE):
            window = (row, 0, min(ROWS_AT_ONCE, self.grid.height - row), self.grid.width)
            yield row, self.read([band], window, nodata=False)[0][..., 0]

    def is_nodata(self, values: np.ndarray, bands: Sequence[int]) -> np.ndarray | None:
        """Where stored values (..., bands) are the nodata values of their bands, same shape; None if nowhere."""
        equal = [equals_nodata(values[..., channel], self.bands[band - 1]) for channel, band in enumerate(bands)]
        if not any(map(np.any, equal)):
            return None
        return np.stack([np.broadcast_to(where, values.shape[:-1]) for where in equal], axis=-1)

    def scale(self, values: np.ndarray, bands: Sequence[int]) -> None:
        """Apply the bands' scale and offset to floats (..., bands), in place."""
        scales, offsets = (
            np.array([getattr(self.bands[band - 1], key) for band in bands]) for key in ("scale", "offset")
        )
        if (scales != 1).any() or (offsets != 0).any():
            values *= scales.astype(values.dtype)
            values += offsets.astype(values.dtype)

    def color_table(self, band: int) -> dict[int, tuple[int, int, int, int]] | None:
        """The colours (red, green, blue, alpha), 0..255, of the values of a palette band; None for other bands.

        Raises:
            DataError: The file declares a palette, but has none, or one with other values.
        """
        chosen = self.bands[band - 1]
        if chosen.meaning != ColorInterp.palette:
            return None
        try:
            colors = self._files[chosen.file].colormap(chosen.index)
        except ValueError as error:
            raise DataError(f"{self.name} declares a colour table that it does not have; write it again.") from error
        if not all(0 <= value <= 255 for color in colors.values() for value in color):
            raise DataError(f"{self.name} has colours that are not from 0 to 255; write it again.")
        return colors

    def make_zero_black(self, values: np.ndarray, bands: Sequence[int]) -> None:
        """Invert, in place, the values (..., bands) of those bands whose 0 is white."""
        for channel, band in enumerate(bands):
            if (white := self.white_value(band)) is not None:
                values[..., channel] = white - values[..., channel]

    def palette_colors(self, values: np.ndarray, bands: Sequence[int]) -> np.ndarray | None:
        """The colours, uint8 (H, W, 3), of the 8-bit values (H, W, 1) of a palette band; None for other bands."""
        if len(bands) != 1 or (table := self.color_table(bands[0])) is None:
            return None
        colors = np.zeros((256, 3), dtype=np.uint8)
        colors[list(table)] = [color[:3] for color in table.values()]
        return colors[values[..., 0].astype(np.uint8)]

    def mask(self) -> np.ndarray | None:
        """The mask, bool (H, W), of the first file for all of its bands; None if it has none."""
        if "mask" not in self._masks_of(0):
            return None
        with raster_errors(self.paths[0], any_format=self._any_format):
            dataset = self._files[0]
            mask = self._read_mask("mask", 0, [], Window(0, 0, dataset.width, dataset.height))
        return self._orientations[0].apply(mask[..., 0])

    def white_value(self, band: int) -> int | None:
        """The value that stands for black in a band whose 0 is white (MINISWHITE); None for other bands.

        If GDAL gives such a band a colour table, as it does for one bit, the table decides.
        """
        chosen = self.bands[band - 1]
        if chosen.meaning == ColorInterp.palette:
            return None
        file = self._files[chosen.file]
        if file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") != "YES" or np.dtype(chosen.dtype).kind != "u":
            return None
        bits = file.tags(chosen.index, ns="IMAGE_STRUCTURE").get("NBITS", "")
        return 2 ** int(bits) - 1 if bits.isdecimal() else int(np.iinfo(chosen.dtype).max)

    def _read_file(
        self, file: int, bands: list[Band], window: tuple[int, int, int, int] | None, dtype: str, nodata: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Like :meth:`read`, for bands of one file."""
        dataset, orientation = self._files[file], self._orientations[file]
        with raster_errors(self.paths[file], any_format=self._any_format):
            if window is None:
                check_whole_file(dataset, self.paths[file])
            row, column, rows, columns = orientation.stored_window(
                *(window or (0, 0, *self.grid.shape)), *dataset.shape
            )
            stored = Window(column, row, columns, rows)
            values = np.empty((stored.height, stored.width, len(bands)), dtype=dtype)
            out = values.transpose(2, 0, 1)
            if len({band.dtype for band in bands}) == 1:
                dataset.read([band.index for band in bands], out=out, window=stored)
            else:  # GDAL reads bands of one type at a time
                for place, band in enumerate(bands):
                    out[place] = dataset.read(band.index, window=stored)
            masks = [
                self._read_mask(kind, file, bands, stored)
                for kind in self._masks_of(file, {band.index for band in bands})
            ]
        missing = [without_data(values[..., place], band, nodata) for place, band in enumerate(bands)]
        if not masks and not any(map(np.any, missing)):
            return orientation.apply(values), None
        valid = np.ones(values.shape, dtype=bool)
        for mask in masks:
            valid &= mask
        for place, where in enumerate(missing):
            valid[..., place] &= np.logical_not(where)
        return orientation.apply(values), orientation.apply(valid)

    def _masks_of(self, file: int, asked: set[int] = frozenset()) -> list[str]:
        """What marks a file's valid pixels besides values: "alpha", "mask" (for all bands), "masks" (one per band)."""
        flags = self._files[file].mask_flag_enums
        masks = ["alpha"] if self._alpha(file) not in (None, *asked) else []
        if any(MaskFlags.per_dataset in of_band and MaskFlags.alpha not in of_band for of_band in flags):
            masks.append("mask")
        if any(not of_band for of_band in flags):
            masks.append("masks")
        return masks

    def _alpha(self, file: int) -> int | None:
        if file not in self._alphas:
            with raster_errors(self.paths[file], any_format=self._any_format):
                self._alphas[file] = _find_alpha(self._files[file])
        return self._alphas[file]

    def _read_mask(self, kind: str, file: int, bands: list[Band], window: Window) -> np.ndarray:
        """The mask, bool (H, W, 1 or bands)."""
        dataset = self._files[file]
        if kind == "alpha":
            return dataset.read(self._alpha(file), window=window)[..., None] > 0
        flags = dataset.mask_flag_enums
        if kind == "mask":
            first = next(index for index, of_band in enumerate(flags, start=1) if MaskFlags.per_dataset in of_band)
            return dataset.read_masks(first, window=window)[..., None] > 0
        read = dataset.read_masks([band.index for band in bands], window=window) > 0
        return read.transpose(1, 2, 0) | np.array([bool(flags[band.index - 1]) for band in bands])


def _find_alpha(dataset: DatasetReader) -> int | None:
    """The 1-based alpha band: in PNG as declared, otherwise only if most nonzero values are equal, such as 255."""
    if ColorInterp.alpha not in dataset.colorinterp:
        return None
    band = dataset.colorinterp.index(ColorInterp.alpha) + 1
    if dataset.driver == "PNG":
        return band
    windows = [Window(column, row, width, height) for row, column, height, width in sample_windows(*dataset.shape)]
    values = np.concatenate([dataset.read(band, window=window).ravel() for window in windows])
    _, counts = np.unique(values[values != 0], return_counts=True)
    return band if not len(counts) or counts.max() * 2 > counts.sum() else None


def _settled(first: RasterInfo, second: RasterInfo) -> RasterInfo:
    """The second of two headers on one grid; if one has no georeference, its pixels are taken as stored."""
    if first.grid.transform is None:
        return replace(second, grid=Grid(*second.stored_size), orientation=Orientation())
    return replace(second, grid=first.grid, orientation=first.orientation) if second.grid.transform is None else second
