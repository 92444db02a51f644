"""Reading the two images of a pair, from files or from memory."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.data.raster import (
    check_has_data,
    check_rgb_arguments,
    check_same_grid,
    check_sar_arguments,
    read_raster_info,
    read_rgb,
    read_sar,
)
from mm_ovseg.data.raster_array import decode_rgb_array, decode_sar_array
from mm_ovseg.errors import DataError

__all__ = ["PairReader", "Raster"]

Raster = str | os.PathLike | np.ndarray


class PairReader:
    """Reads pairs of RGB and SAR images that lie on one pixel grid.

    Args:
        rgb_bands, rgb_range: As in :func:`mm_ovseg.data.raster.read_rgb`.
        sar_scale, sar_range, sar_bands: As in :func:`mm_ovseg.data.raster.read_sar`.

    Raises:
        ConfigError: An argument has the wrong form.
    """

    def __init__(
        self,
        *,
        rgb_bands: Sequence[int] = (),
        rgb_range: Sequence[float] = (),
        sar_scale: str = "8bit",
        sar_range: Sequence[float] = (-25.0, 0.0),
        sar_bands: Sequence[int] = (),
    ) -> None:
        check_rgb_arguments(rgb_bands, rgb_range)
        check_sar_arguments(sar_scale, sar_range, sar_bands)
        self._rgb_settings = {"bands": tuple(rgb_bands), "value_range": tuple(rgb_range)}
        self._sar_settings = {"scale": sar_scale, "value_range": tuple(sar_range), "bands": tuple(sar_bands)}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PairReader":
        """The reader that ``INPUT.RGB`` and ``INPUT.SAR`` describe."""
        rgb, sar = cfg.INPUT.RGB, cfg.INPUT.SAR
        return cls(
            rgb_bands=rgb.BANDS,
            rgb_range=rgb.RANGE,
            sar_scale=sar.SCALE,
            sar_range=sar.RANGE,
            sar_bands=sar.BANDS,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What the arrays depend on besides the files."""
        return {"rgb": self._rgb_settings, "sar": self._sar_settings}

    def read(self, rgb: Raster, sar: Raster | None) -> PairSample:
        """Read one pair.

        Args:
            rgb: A file, or an array as :func:`~mm_ovseg.data.raster_array.decode_rgb_array` takes it.
            sar: A file, or an array as :func:`~mm_ovseg.data.raster_array.decode_sar_array` takes it; None for a pair
                without SAR, whose sample has None for the SAR image and its mask.

        Raises:
            DataError: An image cannot be read or used, holds no data, or the two do not share one grid.
        """
        if _is_path(rgb) and _is_path(sar):
            check_same_grid(read_raster_info(rgb), read_raster_info(sar))
        image, image_valid = self.read_rgb(rgb)
        if sar is None:
            return PairSample(image, image_valid, None, None)
        sar_image, sar_valid = self.read_sar(sar)
        if image.shape != sar_image.shape:
            (height, width), (sar_height, sar_width) = image.shape[:2], sar_image.shape[:2]
            raise DataError(
                f"RGB is {width}x{height} pixels and SAR {sar_width}x{sar_height}; the images of a pair must have one "
                "size: resample one of them to the other's grid."
            )
        return PairSample(image, image_valid, sar_image, sar_valid)

    def read_rgb(self, rgb: Raster) -> tuple[np.ndarray, np.ndarray]:
        """Read the RGB image of a pair: what :func:`mm_ovseg.data.raster.read_rgb` returns.

        Raises:
            DataError: It cannot be read or used, or holds no data.
        """
        name = _name(rgb, "RGB")
        read = (
            read_rgb(rgb, **self._rgb_settings) if _is_path(rgb) else decode_rgb_array(rgb, name, **self._rgb_settings)
        )
        check_has_data(read[1], name)
        return read

    def read_sar(self, sar: Raster) -> tuple[np.ndarray, np.ndarray]:
        """Read the SAR image of a pair: what :func:`mm_ovseg.data.raster.read_sar` returns.

        Raises:
            DataError: It cannot be read or used, or holds no data.
        """
        name = _name(sar, "SAR")
        read = (
            read_sar(sar, **self._sar_settings) if _is_path(sar) else decode_sar_array(sar, name, **self._sar_settings)
        )
        check_has_data(read[1], name)
        return read


def _is_path(raster: Raster | None) -> bool:
    return isinstance(raster, str | os.PathLike)


def _name(raster: Raster, kind: str) -> str:
    """What messages call an image."""
    if _is_path(raster):
        return os.fspath(raster)
    if not isinstance(raster, np.ndarray):
        raise DataError(f"{kind} is given as {type(raster).__name__}; give a path or a NumPy array.")
    return f"The {kind} array"
