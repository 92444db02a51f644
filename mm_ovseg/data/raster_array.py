"""RGB and SAR images in memory, taken as files with the same numbers are."""

from collections.abc import Sequence

import numpy as np

from mm_ovseg.data.intensity import check_rgb_types, check_sar_types, rgb_intensities, sar_intensities
from mm_ovseg.data.raster_file import select_bands
from mm_ovseg.errors import DataError

__all__ = ["decode_rgb_array", "decode_sar_array"]


def decode_rgb_array(
    array: np.ndarray, name: str, *, bands: Sequence[int] = (), value_range: Sequence[float] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`mm_ovseg.data.raster.read_rgb`, of an array, which stays as it is.

    Args:
        array: (H, W, 3), red, green and blue, or, with ``bands``, (H, W, C): uint8, or any numbers where there is a
            ``value_range``. In a masked array a pixel whose bands are all masked has no data.
        name: What messages call it.
        bands, value_range: As in :func:`mm_ovseg.data.raster.read_rgb`, which checks their form.

    Raises:
        DataError: The array has another shape or type, or lacks a band.
    """
    check_rgb_types([str(array.dtype)], name, value_range)
    _check_form(array, name)
    if array.ndim != 3 or (not bands and array.shape[2] != 3):
        raise DataError(
            f"{name} has shape {array.shape}; give (height, width, 3), red, green and blue, or set INPUT.RGB.BANDS to "
            "the three bands of (height, width, bands)."
        )
    indexes = select_bands(array.shape[2], name, bands, [1, 2, 3], "INPUT.RGB.BANDS")
    image, masked = _take(array, indexes, "float32" if value_range else "uint8")
    return rgb_intensities(image, ~masked.all(axis=2), value_range)


def decode_sar_array(
    array: np.ndarray,
    name: str,
    *,
    scale: str = "8bit",
    value_range: Sequence[float] = (-25.0, 0.0),
    bands: Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`mm_ovseg.data.raster.read_sar`, of an array, which stays as it is.

    Args:
        array: (H, W) or (H, W, C): uint8 where the scale is ``"8bit"``, else any numbers; of more than three bands the
            first three are used. In a masked array a pixel with a masked band has no data.
        name: What messages call it.
        scale, value_range, bands: As in :func:`mm_ovseg.data.raster.read_sar`, which checks their form.

    Raises:
        DataError: The array has another shape or type, or lacks a band.
    """
    check_sar_types([str(array.dtype)], name, scale)
    _check_form(array, name)
    if array.ndim not in (2, 3):
        raise DataError(f"{name} has shape {array.shape}; give (height, width) or (height, width, bands).")
    array = array[..., None] if array.ndim == 2 else array
    count = array.shape[2]
    indexes = select_bands(count, name, bands, list(range(1, min(count, 3) + 1)), "INPUT.SAR.BANDS")
    sar, masked = _take(array, indexes, "float32")
    return sar_intensities(sar, ~masked.any(axis=2), scale=scale, value_range=value_range)


def _check_form(array: np.ndarray, name: str) -> None:
    if array.dtype.kind not in "uif":
        raise DataError(f"{name} holds {array.dtype} values; give numbers, such as uint8 or float32.")
    if 0 in array.shape:
        raise DataError(f"{name} has shape {array.shape} and so no pixels; give an image with some.")


def _take(array: np.ndarray, indexes: Sequence[int], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """A copy of the 1-based bands (H, W, n), and where they are masked."""
    chosen = array[..., [index - 1 for index in indexes]]
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and so without data
        return np.ma.getdata(chosen).astype(dtype, copy=False), np.ma.getmaskarray(chosen)
