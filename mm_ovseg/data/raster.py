"""Reading RGB images, SAR images and label maps from PNG, JPEG and GeoTIFF files, with their no-data pixels."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from rasterio import DatasetReader
from rasterio.windows import Window

from mm_ovseg.data.intensity import check_rgb_types, check_sar_types, rgb_intensities, sar_intensities
from mm_ovseg.data.raster_file import (
    RasterInfo,
    apply_scale,
    check_same_grid,
    color_bands,
    data_bands,
    open_raster,
    read_bands,
    read_palette,
    read_raster_info,
    read_valid,
    select_bands,
)
from mm_ovseg.data.raster_safety import check_whole_file
from mm_ovseg.errors import ConfigError, DataError

__all__ = [
    "SAR_SCALES",
    "RasterInfo",
    "check_has_data",
    "check_rgb_arguments",
    "check_same_grid",
    "check_sar_arguments",
    "decode_rgb",
    "decode_sar",
    "read_label",
    "read_raster_info",
    "read_rgb",
    "read_sar",
]

SAR_SCALES = ("8bit", "power", "amplitude", "db")
VALUES_SHOWN = 10


def read_rgb(
    path: str | os.PathLike,
    *,
    bands: Sequence[int] = (),
    value_range: Sequence[float] = (),
    window: Window | None = None,
    nodata: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read an RGB image.

    Args:
        path: The file. One grey band gives three equal channels, a palette its colours; alpha says what is
            valid.
        bands: Three 1-based bands in the order red, green, blue; empty for those that the file calls so, else its first
            three.
        value_range: (low, high) in the file's units, its scale and offset applied, mapped linearly to 0..255 and
            clipped; empty for 8-bit files.
        window: The part of the file to read; None for all of it.
        nodata: Value that, in all channels at once, means no data, whatever the file declares.

    Returns:
        image: uint8 (H, W, 3), 0..255; 0 where not valid.
        valid: bool (H, W); False where the file has no data in any channel, or a value that is not finite.

    Raises:
        DataError: The file cannot be read, lacks a band, or is not 8-bit while ``value_range`` is empty.
        ConfigError: ``bands`` or ``value_range`` have the wrong form.
    """
    check_rgb_arguments(bands, value_range)
    with open_raster(path) as dataset:
        return decode_rgb(dataset, path, bands=bands, value_range=value_range, window=window, nodata=nodata)


def decode_rgb(
    dataset: DatasetReader,
    name: str | os.PathLike,
    *,
    bands: Sequence[int] = (),
    value_range: Sequence[float] = (),
    window: Window | None = None,
    nodata: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`read_rgb`, of an open raster that messages call ``name``; the arguments' form was checked."""
    indexes = select_bands(dataset.count, name, bands, color_bands(dataset), "INPUT.RGB.BANDS")
    if len(indexes) == 2:
        raise DataError(f"{name} has two bands, which are no RGB image; set INPUT.RGB.BANDS to three bands.")
    check_rgb_types(dataset.dtypes, name, value_range)
    image = read_bands(dataset, indexes, "float32" if value_range else "uint8", window)  # (H, W, 1 or 3)
    # A channel of a valid pixel may hold the no-data value (0 red), so one valid channel is enough.
    valid = read_valid(dataset, indexes, np.any, window)
    if nodata is not None:
        valid &= (image != nodata).any(axis=2)
    if value_range:
        apply_scale(image, dataset, indexes)
    elif (palette := read_palette(dataset, indexes)) is not None:
        image = palette[image[..., 0]]
    return rgb_intensities(image, valid, value_range)


def read_sar(
    path: str | os.PathLike,
    *,
    scale: str = "8bit",
    value_range: Sequence[float] = (-25.0, 0.0),
    bands: Sequence[int] = (),
    window: Window | None = None,
    nodata: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read a SAR image as the three channels that the encoders take.

    One band gives three equal channels; two (a, b) give a, b and their mean; three are taken as they are.

    Args:
        path: The file.
        scale: What the file holds: ``"8bit"`` (0..255 already), linear ``"power"``, ``"amplitude"`` or
            ``"db"``.
        value_range: (low, high) in dB mapped linearly to 0..255 and clipped; not used for ``"8bit"``.
        bands: One to three 1-based bands (polarisations); empty for the file's first up to three.
        window: The part of the file to read; None for all of it.
        nodata: Value that, in any of the bands, means no data, whatever the file declares.

    Returns:
        sar: float32 (H, W, 3), 0..255; 0 where not valid.
        valid: bool (H, W); False where a band has no data, a value that is not finite, or a power that is not
            positive.

    Raises:
        DataError: The file cannot be read, lacks a band, or does not hold what ``scale`` says.
        ConfigError: ``scale``, ``value_range`` or ``bands`` have the wrong form.
    """
    check_sar_arguments(scale, value_range, bands)
    with open_raster(path) as dataset:
        return decode_sar(
            dataset, path, scale=scale, value_range=value_range, bands=bands, window=window, nodata=nodata
        )


def decode_sar(
    dataset: DatasetReader,
    name: str | os.PathLike,
    *,
    scale: str = "8bit",
    value_range: Sequence[float] = (-25.0, 0.0),
    bands: Sequence[int] = (),
    window: Window | None = None,
    nodata: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`read_sar`, of an open raster that messages call ``name``; the arguments' form was checked."""
    indexes = select_bands(dataset.count, name, bands, data_bands(dataset)[:3], "INPUT.SAR.BANDS")
    check_sar_types(dataset.dtypes, name, scale)
    sar = read_bands(dataset, indexes, "float32", window)  # (H, W, 1..3)
    valid = read_valid(dataset, indexes, np.all, window)
    if nodata is not None:
        valid &= (sar != nodata).all(axis=2)
    if scale.lower() != "8bit":
        apply_scale(sar, dataset, indexes)
    elif (palette := read_palette(dataset, indexes)) is not None:
        sar = palette[sar[..., 0].astype(np.uint8)].astype(np.float32)
    return sar_intensities(sar, valid, scale=scale, value_range=value_range)


def read_label(
    path: str | os.PathLike,
    *,
    num_classes: int,
    ignore_label: int = 255,
    label_values: Mapping[int, int] | None = None,
) -> np.ndarray:
    """Read a label map. A palette PNG gives its indices; no-data pixels become ``ignore_label``.

    Args:
        path: The file, with one band of whole numbers.
        num_classes: Class indices are 0..num_classes - 1.
        ignore_label: Value that stands for no class, in the file (unless ``label_values`` gives it another
            meaning) and in the result.
        label_values: Raw value -> class index or ``ignore_label``; None if the file holds class indices.

    Returns:
        uint8 (H, W): class indices and ``ignore_label``.

    Raises:
        DataError: The file cannot be read, is no label map, or holds a value that no class has.
    """
    with open_raster(path) as dataset:
        if len(data_bands(dataset)) != 1:
            raise DataError(
                f"{path} has {dataset.count} bands; a label map has one, with a number per pixel: convert "
                "colours to class numbers."
            )
        check_whole_file(dataset, path)
        raw = dataset.read(1)  # (H, W)
        nodata = dataset.nodata
    if raw.dtype.kind == "f":
        raw = _whole_numbers(raw, path, ignore_label)
    elif raw.dtype.kind not in "iu":
        raise DataError(f"{path} holds {raw.dtype} values; a label map holds whole numbers.")
    index_of = dict(label_values) if label_values is not None else {value: value for value in range(num_classes)}
    index_of.setdefault(ignore_label, ignore_label)
    allowed = ", ".join(str(value) for value in sorted(index_of))
    if nodata is not None and np.isfinite(nodata):
        index_of.setdefault(int(nodata), ignore_label)

    if raw.dtype == np.uint8:
        present, inverse = np.flatnonzero(np.bincount(raw.ravel(), minlength=256)), None
    else:
        present, inverse = np.unique(raw, return_inverse=True)
    unknown = [int(value) for value in present if int(value) not in index_of]
    if unknown:
        shown = ", ".join(map(str, unknown[:VALUES_SHOWN])) + (", ..." if len(unknown) > VALUES_SHOWN else "")
        raise DataError(
            f"{path} has the label value {shown}, which no class has (allowed: {allowed}); correct the file, or "
            "declare what its values mean with label_values."
        )
    indices = np.array([index_of[int(value)] for value in present], dtype=np.uint8)
    if inverse is not None:
        return indices[inverse].reshape(raw.shape)
    table = np.zeros(256, dtype=np.uint8)
    table[present] = indices
    return table[raw]


def check_rgb_arguments(bands: Sequence[int], value_range: Sequence[float]) -> None:
    """Check the form of :func:`read_rgb`'s arguments, before any file is read.

    Raises:
        ConfigError: There are not three bands, or the range is empty.
    """
    if len(bands) not in (0, 3):
        raise ConfigError(f"INPUT.RGB.BANDS is {list(bands)}; give three 1-based bands (red, green, blue), or [].")
    if value_range:
        _check_range(value_range, "INPUT.RGB.RANGE")


def check_sar_arguments(scale: str, value_range: Sequence[float], bands: Sequence[int]) -> None:
    """Check the form of :func:`read_sar`'s arguments, before any file is read.

    Raises:
        ConfigError: The scale does not exist, there are too many bands, or the range is empty.
    """
    if scale.lower() not in SAR_SCALES:
        raise ConfigError(f"INPUT.SAR.SCALE is '{scale}'; choose one of {', '.join(SAR_SCALES)}.")
    if len(bands) > 3:
        raise ConfigError(f"INPUT.SAR.BANDS is {list(bands)}; give one to three 1-based bands, or [].")
    _check_range(value_range, "INPUT.SAR.RANGE")


def check_has_data(valid: np.ndarray, name: str | os.PathLike) -> None:
    """Check that a raster holds anything.

    Args:
        valid: bool (H, W) as :func:`read_rgb` and :func:`read_sar` return it.
        name: What the message calls the raster.

    Raises:
        DataError: No pixel is valid.
    """
    if not valid.any():
        raise DataError(f"{name} holds no data (every pixel is nodata); leave this pair out.")


def _check_range(value_range: Sequence[float], key: str) -> None:
    if len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise ConfigError(f"{key} is {list(value_range)}; give [low, high] with low below high.")


def _whole_numbers(raw: np.ndarray, path: str | os.PathLike, ignore_label: int) -> np.ndarray:
    """A label map of floats as int64; NaN stands for no data."""
    raw = np.where(np.isnan(raw), ignore_label, raw)
    if not np.isfinite(raw).all() or (raw != np.rint(raw)).any():
        raise DataError(f"{path} has label values that are no whole numbers; a label map holds class numbers.")
    return raw.astype(np.int64)
