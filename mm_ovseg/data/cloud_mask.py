"""Cloud masks of scenes: a raster on any grid, read window by window on the scene's."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np

from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import LabelReader, RasterSource

__all__ = ["QA_PIXEL", "SCL", "CloudMask", "CloudValues", "check_cloud_values"]

SCL, QA_PIXEL = "scl", "qa_pixel"
CloudValues = Sequence[int] | Literal["scl", "qa_pixel"] | None
# Sentinel-2's scene classification: cloud shadow, medium and high probability of cloud, thin cirrus.
SCL_CLOUDS, SCL_CLASSES = (3, 8, 9, 10), range(12)
# The bits of Landsat's QA_PIXEL: dilated cloud, cirrus, cloud, cloud shadow. Bit 0 alone is fill; where there is data,
# the confidences, from bit 8 on, are never all 0.
QA_CLOUDS, QA_FILL, QA_DATA = 0b11110, 1, range(2**8, 2**16)
ROWS_AT_ONCE = 512
VALUES_SHOWN = 5


class CloudMask:
    """The mask of a scene's clouds and their shadows.

    Of a mask on another grid, the nearest pixel counts, or the mode if the scene's pixels are larger. Where the mask
    has no data, and outside of it, no cloud is known.

    Args:
        path: a raster with one band of whole numbers.
        scene: the scene.
        values: those that mean cloud or shadow; "scl": those of Sentinel-2's scene classification; "qa_pixel": those
            with such a bit in Landsat's QA_PIXEL; None: the only value of the mask besides 0.
        any_format: see :func:`mm_ovseg.raster.open_raster`.

    Attributes:
        covered: share of the scene that the extent of the mask covers, 0..1.

    Raises:
        DataError: the file cannot be read or put on the grid of the scene, is elsewhere, or has other values.
    """

    def __init__(
        self, path: str | os.PathLike, scene: SceneSource, values: CloudValues = None, *, any_format: bool = False
    ) -> None:
        self._source = RasterSource(path, any_format=any_format)
        try:
            self._placement = scene.place(self._source)
            self.covered = self._placement.covered
            if not self.covered:
                raise DataError(f"The cloud mask {path} is outside the scene; give that of this scene.")
            found = _found_values(self._source)
            cloudy = _cloudy_values(found, values, self._source.name)
        except BaseException:
            self.close()
            raise
        self._reader = _reader(cloudy)
        self._missing = [] if set(cloudy) & set(found) else cloudy

    def __enter__(self) -> "CloudMask":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def concerns(self) -> list[str]:
        """Warnings about the file, as sentences."""
        concerns = []
        if self._missing:
            concerns.append(
                f"The cloud mask {self._source.name} has none of the values that mean cloud ({_shown(self._missing)}), "
                "so all of it counts as clear; if it has clouds, correct --cloud-values."
            )
        if self.covered < 1:
            concerns.append(
                f"The cloud mask {self._source.name} covers {self.covered:.0%} of the scene; the rest counts as clear."
            )
        return concerns

    def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read a window: bool (height, width), True under cloud or its shadow; False beyond the end of the scene.

        Raises:
            DataError: a block of the file cannot be read.
        """
        rows, columns = self._placement.target.shape
        inside = (min(height, rows - row), min(width, columns - column))
        cloudy, _ = self._reader.read_onto(self._source, self._placement, (row, column, *inside))
        return np.pad(cloudy > 0, ((0, height - inside[0]), (0, width - inside[1])))


def check_cloud_values(values: CloudValues) -> None:
    """Check the values that mean cloud.

    Raises:
        ConfigError: they are not "scl", "qa_pixel" or whole numbers.
    """
    if values in (None, SCL, QA_PIXEL):
        return
    whole = not isinstance(values, str) and all(isinstance(value, int) for value in values)
    if not whole or not values:
        raise ConfigError(
            f"--cloud-values is {values!r}; give whole numbers, '{SCL}' for Sentinel-2's SCL band, or '{QA_PIXEL}' for "
            "Landsat's QA_PIXEL band."
        )


def _reader(cloudy: Collection[int]) -> LabelReader:
    return LabelReader(dict.fromkeys(cloudy, 1), ignore_label=0, kind="cloud mask")


def _found_values(source: RasterSource) -> Counter[int]:
    """The values of a mask, where it has data, and their pixels."""
    reader, found = _reader(()), Counter()
    height, width = source.grid.shape
    for row in range(0, height, ROWS_AT_ONCE):
        found += reader.read(source, (row, 0, min(ROWS_AT_ONCE, height - row), width))[1]
    return found


def _cloudy_values(found: Counter[int], values: CloudValues, name: str) -> Collection[int]:
    if values == SCL:
        if strange := sorted(set(found) - set(SCL_CLASSES)):
            raise DataError(
                f"{name} has the value {_shown(strange)}, but a scene classification (SCL) has 0 to 11; give the SCL "
                "band, or the values that mean cloud with --cloud-values."
            )
        return SCL_CLOUDS
    if values == QA_PIXEL:
        if strange := sorted(value for value in found if value != QA_FILL and value not in QA_DATA):
            raise DataError(
                f"{name} has the value {_shown(strange)}, which Landsat's QA_PIXEL (Collection 2) never has; give the "
                "QA_PIXEL band, or the values that mean cloud with --cloud-values."
            )
        return sorted(value for value in found if value & QA_CLOUDS)
    if values is not None:
        return values
    others = sorted(value for value in found if value)
    if len(others) > 1:
        raise DataError(
            f"{name} has the values {_shown(others)} besides 0, of which not all may mean cloud; name those that do "
            f"with --cloud-values, which for Sentinel-2's SCL band is '{SCL}', for Landsat's QA_PIXEL '{QA_PIXEL}'."
        )
    return others


def _shown(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:VALUES_SHOWN])) + (", ..." if len(values) > VALUES_SHOWN else "")
