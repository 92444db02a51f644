"""Raster files: their headers, whether two lie on one grid, and their bands and no-data pixels as arrays."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine, DatasetReader
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from mm_ovseg.data.raster_safety import (
    DRIVERS_VARIABLE,
    allowed_drivers,
    check_before_opening,
    check_blocks,
    check_whole_file,
)
from mm_ovseg.data.virtual_raster import check_virtual_raster, is_virtual_raster
from mm_ovseg.errors import MOST_OF_A_REASON, DataError

__all__ = [
    "RasterInfo",
    "apply_scale",
    "check_same_grid",
    "color_bands",
    "data_bands",
    "open_raster",
    "raster_errors",
    "raster_info",
    "read_bands",
    "read_color_table",
    "read_palette",
    "read_raster_info",
    "read_valid",
    "select_bands",
]

GRID_TOLERANCE = 0.5  # pixels, at each corner
# By default GDAL fills what a truncated JPEG lacks with grey, and its fast path for PNG leaves it as it happens to be.
# Of the files beside one it is to take only those whose exact names are checked before.
STRICT_READING = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,
    "GDAL_DISABLE_READDIR_ON_OPEN": True,
}


@dataclass(frozen=True)
class RasterInfo:
    """What the header of a raster file says.

    Attributes:
        path: The file.
        width, height: Pixels.
        count: Bands.
        dtypes: NumPy type name of each band.
        crs: Coordinate reference system; None where the file has none.
        transform: (column, row) of pixel corners -> map coordinates; None where the file has no georeference.
        nodata: Value that stands for no data; None where the file declares none.
    """

    path: Path
    width: int
    height: int
    count: int
    dtypes: tuple[str, ...]
    crs: CRS | None
    transform: Affine | None
    nodata: float | None


def read_raster_info(path: str | os.PathLike) -> RasterInfo:
    """Read a file's header.

    Raises:
        DataError: The file is missing or no raster.
    """
    with open_raster(path) as dataset:
        return raster_info(path, dataset)


def raster_info(path: str | os.PathLike, dataset: DatasetReader) -> RasterInfo:
    """What the header of an open raster says; ``path`` is what messages call it."""
    return RasterInfo(
        path=Path(path),
        width=dataset.width,
        height=dataset.height,
        count=dataset.count,
        dtypes=dataset.dtypes,
        crs=dataset.crs,
        transform=None if dataset.transform.is_identity else dataset.transform,
        nodata=dataset.nodata,
    )


def check_same_grid(first: RasterInfo, second: RasterInfo) -> None:
    """Check that pixel (row, column) is the same place in both files.

    Sizes must be equal. Where both files have a coordinate reference system, it must be equal too, and so must
    the extents, within half a pixel; extents are also compared where both have world files and no reference
    system.

    Raises:
        DataError: They differ; the message says in what and how to mend it.
    """
    remedy = "resample one of them to the other's grid (gdalwarp does so)"
    if (first.width, first.height) != (second.width, second.height):
        raise DataError(
            f"{first.path} is {first.width}x{first.height} pixels and {second.path} "
            f"{second.width}x{second.height}; the files of a pair must have one size: {remedy}."
        )
    if (first.crs is None) != (second.crs is None) or first.transform is None or second.transform is None:
        return
    if first.crs != second.crs:
        raise DataError(
            f"{first.path} is in {first.crs.to_string()} and {second.path} in {second.crs.to_string()}; the files "
            f"of a pair must have one coordinate reference system: {remedy}."
        )
    try:
        offset = _largest_offset(first, second)
    except np.linalg.LinAlgError:
        raise DataError(
            f"{first.path} has a geotransform that maps its pixels onto a line; georeference it anew."
        ) from None
    if offset > GRID_TOLERANCE:
        raise DataError(
            f"{first.path} and {second.path} cover different places (their corners are up to {offset:.1f} "
            f"pixels apart); the files of a pair must cover the same extent: {remedy}."
        )


def _largest_offset(first: RasterInfo, second: RasterInfo) -> float:
    """The largest distance between corresponding corners along an axis, in pixels of the first file."""
    corners = np.array([(0, 0, 1), (first.width, 0, 1), (0, first.height, 1), (first.width, first.height, 1)]).T
    first_matrix, second_matrix = (np.reshape(tuple(info.transform), (3, 3)) for info in (first, second))
    return float(np.abs(np.linalg.solve(first_matrix, second_matrix @ corners) - corners).max())


@contextmanager
def open_raster(path: str | os.PathLike) -> Iterator[DatasetReader]:
    """Open a raster; whatever GDAL finds wrong with it, on opening or later, becomes a DataError.

    What :mod:`mm_ovseg.data.raster_safety` refuses is not opened.
    """
    check_before_opening(path)
    with raster_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # plain PNG and JPEG are welcome
        drivers = allowed_drivers()
        if drivers is not None and "VRT" not in drivers and is_virtual_raster(path):
            check_virtual_raster(path)
            drivers = ["VRT"]
        # Absolute, since some relative names pass for URLs; rasterio.open takes no list of drivers.
        with DatasetReader(os.path.abspath(path), driver=drivers, sharing=False) as dataset:
            check_blocks(dataset, path)
            yield dataset


@contextmanager
def raster_errors(path: str | os.PathLike) -> Iterator[None]:
    """Read strictly, and turn whatever GDAL finds wrong with a file within the block into a DataError."""
    try:
        with rasterio.Env(**STRICT_READING):
            yield
    except (RasterioError, CPLE_BaseError) as error:  # rasterio lets some of GDAL's own errors through
        reason = " ".join(str(error.__cause__ or error).split())[:MOST_OF_A_REASON]
        raise DataError(
            f"{path} cannot be read as a PNG, JPEG or GeoTIFF image ({reason}); it is damaged or something else: "
            f"replace it, or allow its format with {DRIVERS_VARIABLE} (SECURITY.md)."
        ) from error


def data_bands(dataset: DatasetReader) -> list[int]:
    """The 1-based bands that are no alpha."""
    return [band for band, meaning in enumerate(dataset.colorinterp, start=1) if meaning != ColorInterp.alpha]


def color_bands(dataset: DatasetReader) -> list[int]:
    """The 1-based bands that show red, green and blue: those that the file calls so, else the first up to three."""
    bands = {meaning: band for band, meaning in enumerate(dataset.colorinterp, start=1)}
    colors = [bands.get(color) for color in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
    return data_bands(dataset)[:3] if None in colors else colors


def select_bands(count: int, name: str | os.PathLike, bands: Sequence[int], default: list[int], key: str) -> list[int]:
    """The 1-based bands to read of ``count``: those asked for by the config key, else the default."""
    if not bands:
        return default
    if absent := [band for band in bands if not 1 <= band <= count]:
        raise DataError(f"{name} has no band {absent[0]}, but bands 1 to {count}; correct {key}.")
    return list(bands)


def read_bands(dataset: DatasetReader, indexes: Sequence[int], dtype: str, window: Window | None = None) -> np.ndarray:
    """Read bands, of a window or of the whole file, as (H, W, bands), decoded straight into that layout.

    Numbers are as stored; :func:`apply_scale` makes them what they stand for.

    Raises:
        DataError: The whole file has too many pixels.
    """
    if window is None:
        check_whole_file(dataset, dataset.name)
    height, width = dataset.shape if window is None else (window.height, window.width)
    image = np.empty((height, width, len(indexes)), dtype=dtype)
    dataset.read(list(indexes), out=image.transpose(2, 0, 1), window=window)
    return image


def apply_scale(image: np.ndarray, dataset: DatasetReader, indexes: Sequence[int]) -> None:
    """Apply the scale and offset that a file states for its bands to (H, W, bands) floats, in place."""
    scales, offsets = (np.array([values[band - 1] for band in indexes]) for values in (dataset.scales, dataset.offsets))
    if (scales != 1).any() or (offsets != 0).any():
        image *= scales.astype(image.dtype)
        image += offsets.astype(image.dtype)


def read_valid(
    dataset: DatasetReader,
    indexes: Sequence[int],
    combine: Callable[..., np.ndarray],
    window: Window | None = None,
) -> np.ndarray:
    """Where the file's nodata value, alpha or mask says data, bool (H, W); bands joined by ``combine``."""
    if ColorInterp.alpha in dataset.colorinterp:  # a warped raster's alpha is in no mask flag
        return dataset.read(dataset.colorinterp.index(ColorInterp.alpha) + 1, window=window) > 0
    flags = [dataset.mask_flag_enums[band - 1] for band in indexes]
    if all(MaskFlags.all_valid in band_flags for band_flags in flags):
        return np.ones(dataset.shape if window is None else (window.height, window.width), dtype=bool)
    if MaskFlags.per_dataset in flags[0]:
        return dataset.read_masks(indexes[0], window=window) > 0
    return combine(dataset.read_masks(list(indexes), window=window) > 0, axis=0)


def read_palette(dataset: DatasetReader, indexes: Sequence[int]) -> np.ndarray | None:
    """The colours of a palette file, uint8 (256, 3); None for other files."""
    if len(indexes) != 1 or dataset.colorinterp[indexes[0] - 1] != ColorInterp.palette:
        return None
    colors = np.zeros((256, 3), dtype=np.uint8)
    for index, color in read_color_table(dataset, indexes[0]).items():
        colors[index] = color[:3]
    return colors


def read_color_table(dataset: DatasetReader, band: int) -> dict[int, tuple[int, int, int, int]]:
    """The colours (red, green, blue, alpha), 0..255, of a palette file's values.

    Raises:
        DataError: The file calls itself one, but has none, or other numbers in it.
    """
    try:
        colors = dataset.colormap(band)
    except ValueError as error:
        raise DataError(f"{dataset.name} is to be coloured by a table that it lacks; write it anew.") from error
    if not all(0 <= value <= 255 for color in colors.values() for value in color):
        raise DataError(f"{dataset.name} has colours that are not from 0 to 255; write it anew.")
    return colors
