"""From the numbers that rasters hold to the 0..255 that the encoders take.

Scaling depends on the arguments only, never on a tile's own minimum and maximum: the same pixel gives the same
number whatever is around it.
"""

import os
from collections.abc import Collection, Sequence

import numpy as np

from mm_ovseg.errors import DataError

__all__ = ["check_rgb_types", "check_sar_types", "rgb_intensities", "sar_intensities"]


def check_rgb_types(types: Collection[str], name: str | os.PathLike, value_range: Sequence[float]) -> None:
    """Check that RGB bands are 8-bit, or that a range says what becomes 0 and 255.

    Args:
        types: NumPy type name of each band.
        name: What messages call the raster.
        value_range: As in :func:`mm_ovseg.data.raster.read_rgb`.

    Raises:
        DataError: They are not.
    """
    if not value_range and set(types) != {"uint8"}:
        raise DataError(
            f"{name} holds {next(iter(types))} values; set INPUT.RGB.RANGE to the [low, high] that become 0 and 255."
        )


def check_sar_types(types: Collection[str], name: str | os.PathLike, scale: str) -> None:
    """Check that SAR bands can be of the scale that the config says; arguments as in :func:`check_rgb_types`.

    Raises:
        DataError: They are not 8-bit where the scale is, or complex.
    """
    first = next(iter(types))
    if scale.lower() == "8bit" and set(types) != {"uint8"}:
        raise DataError(
            f"{name} holds {first} values, not 8-bit ones; set INPUT.SAR.SCALE to what they "
            "are (power, amplitude or db) and INPUT.SAR.RANGE to the dB that become 0 and 255."
        )
    if first.startswith("complex"):
        raise DataError(f"{name} holds complex values; write their amplitude and set INPUT.SAR.SCALE to amplitude.")


def rgb_intensities(
    bands: np.ndarray, valid: np.ndarray, value_range: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Make the RGB image of the bands as they were read, both of which may be overwritten.

    Args:
        bands: (H, W, 1 or 3); uint8 where there is no range, else float32.
        valid: bool (H, W), where they have data.
        value_range: (low, high) that become 0 and 255; empty for 8-bit bands.

    Returns:
        image: uint8 (H, W, 3), 0..255; 0 where not valid.
        valid: bool (H, W); as given, and False where a value is not finite.
    """
    image = bands
    if value_range:
        valid = valid & np.isfinite(image).all(axis=2)
        image = np.rint(_scale_to_255(image, valid, value_range)).astype(np.uint8)
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    if not valid.all():
        image[~valid] = 0
    return image, valid


def sar_intensities(
    bands: np.ndarray, valid: np.ndarray, *, scale: str, value_range: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Make the SAR image of the bands as they were read, both of which may be overwritten.

    Args:
        bands: float32 (H, W, 1 to 3).
        valid: bool (H, W), where they have data.
        scale: ``"8bit"``, ``"power"``, ``"amplitude"`` or ``"db"``.
        value_range: (low, high) in dB that become 0 and 255; not used for ``"8bit"``.

    Returns:
        sar: float32 (H, W, 3), 0..255; 0 where not valid. Of two bands (a, b) it has a, b and their mean.
        valid: bool (H, W); as given, and False where a value is not finite or a power not positive.
    """
    scale, sar = scale.lower(), bands
    if scale != "8bit":
        usable = np.isfinite(sar) if scale == "db" else np.isfinite(sar) & (sar > 0)
        valid = valid & usable.all(axis=2)
        if scale != "db":
            np.log10(sar, out=sar, where=usable)
            sar *= 10.0 if scale == "power" else 20.0
        sar = _scale_to_255(sar, valid, value_range)
    if not valid.all():
        sar[~valid] = 0.0
    if sar.shape[2] == 1:
        sar = np.repeat(sar, 3, axis=2)
    elif sar.shape[2] == 2:
        sar = np.concatenate([sar, sar.mean(axis=2, keepdims=True)], axis=2)
    return sar, valid


def _scale_to_255(image: np.ndarray, valid: np.ndarray, value_range: Sequence[float]) -> np.ndarray:
    """Map [low, high] to 0..255 and clip, in place; what is not valid becomes 0, so that the result is finite."""
    low, high = value_range
    if not valid.all():
        image[~valid] = low
    image -= low
    image *= 255.0 / (high - low)
    return np.clip(image, 0.0, 255.0, out=image)
