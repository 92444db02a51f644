"""Cloud masks of scenes: a raster on any grid, read window by window on the scene's."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.data.value_mask import ValueMask, shown_values
from mm_ovseg.errors import ConfigError, DataError

__all__ = ["QA_PIXEL", "SCL", "CloudMask", "CloudValues", "check_cloud_values"]

SCL, QA_PIXEL = "scl", "qa_pixel"
CloudValues = Sequence[int] | Literal["scl", "qa_pixel"] | None
# Sentinel-2's scene classification: cloud shadow, medium and high probability of cloud, thin cirrus.
SCL_CLOUDS, SCL_CLASSES = (3, 8, 9, 10), range(12)
# The bits of Landsat's QA_PIXEL: dilated cloud, cirrus, cloud, cloud shadow. Bit 0 alone is fill; where there is data,
# the confidences, from bit 8 on, are never all 0.
QA_CLOUDS, QA_FILL, QA_DATA = 0b11110, 1, range(2**8, 2**16)


class CloudMask(ValueMask):
    """The mask of a scene's clouds and their shadows; where it has no data, no cloud is known.

    Args:
        path: a raster with one band of whole numbers.
        scene: the scene.
        values: those that mean cloud or shadow; "scl": those of Sentinel-2's scene classification; "qa_pixel": those
            with such a bit in Landsat's QA_PIXEL; None: the only value of the mask besides 0.
        any_format: see :func:`mm_ovseg.raster.open_raster`.

    Raises:
        DataError: the file cannot be read or put on the grid of the scene, is elsewhere, or has other values.
    """

    kind, whole, meaning, otherwise = "cloud mask", "scene", "cloud", "clear"
    option = "--cloud-values"
    hint = f", which for Sentinel-2's SCL band is '{SCL}', for Landsat's QA_PIXEL '{QA_PIXEL}'"

    def __init__(
        self, path: str | os.PathLike, scene: SceneSource, values: CloudValues = None, *, any_format: bool = False
    ) -> None:
        super().__init__(path, scene.place, values, any_format=any_format)

    def _meant_values(self, found: Counter[int], values: CloudValues) -> Collection[int]:
        if values == QA_PIXEL:
            return self._clouds_by_bits(found)
        if values != SCL:
            return super()._meant_values(found, values)
        if strange := sorted(set(found) - set(SCL_CLASSES)):
            raise DataError(
                f"{self.name} has the value {shown_values(strange)}, but a scene classification (SCL) has 0 to 11; "
                "give the SCL band, or the values that mean cloud with --cloud-values."
            )
        return SCL_CLOUDS

    def _clouds_by_bits(self, found: Counter[int]) -> Collection[int]:
        if strange := sorted(value for value in found if value != QA_FILL and value not in QA_DATA):
            raise DataError(
                f"{self.name} has the value {shown_values(strange)}, which Landsat's QA_PIXEL (Collection 2) never "
                "has; give the QA_PIXEL band, or the values that mean cloud with --cloud-values."
            )
        return sorted(value for value in found if value & QA_CLOUDS)


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
