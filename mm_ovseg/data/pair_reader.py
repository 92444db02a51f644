"""Reading the two images of a pair, from files or from memory, and the labels that belong to them."""

import logging
import os
from contextlib import ExitStack
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.data.seen_labels import SeenLabelReader
from mm_ovseg.errors import DataError
from mm_ovseg.raster import ImageReader, RasterSource, RGBReader, SARReader

__all__ = ["PairReader", "Raster", "image_readers"]

logger = logging.getLogger(__name__)

Raster = str | os.PathLike | np.ndarray


def image_readers(cfg: CfgNode) -> tuple[RGBReader, SARReader]:
    """The readers that ``INPUT.RGB`` and ``INPUT.SAR`` describe.

    Raises:
        ConfigError: A setting has the wrong form.
    """
    rgb, sar = cfg.INPUT.RGB, cfg.INPUT.SAR
    return (
        RGBReader(bands=tuple(rgb.BANDS), value_range=tuple(rgb.RANGE), nodata=rgb.NODATA),
        SARReader(bands=tuple(sar.BANDS), value_range=tuple(sar.RANGE), nodata=sar.NODATA, scale=sar.SCALE),
    )


class PairReader:
    """Reads pairs of RGB and SAR images that share one pixel grid.

    Args:
        rgb, sar: Readers of the images.
        any_format: See :func:`mm_ovseg.raster.open_raster`.
        warn: Log the readers' :meth:`~mm_ovseg.raster.ImageReader.concerns` about each file.
        may_lack_one: Read a pair of which one image has no data, with a warning.
        may_lack_sar: Read a pair whose SAR image has no data, as its author meant.
        fixed_sar_unit: Refuse SAR files that declare another unit than ``sar``, in which speckle is drawn.
    """

    def __init__(
        self,
        rgb: RGBReader | None = None,
        sar: SARReader | None = None,
        *,
        any_format: bool = False,
        warn: bool = False,
        may_lack_one: bool = False,
        may_lack_sar: bool = False,
        fixed_sar_unit: bool = False,
    ) -> None:
        self.rgb, self.sar = rgb or RGBReader(), sar or SARReader()
        self._any_format, self._warn, self._may_lack_one = any_format, warn, may_lack_one
        self._fixed_sar_unit = fixed_sar_unit
        self.may_lack_sar = may_lack_sar

    @classmethod
    def from_config(cls, cfg: CfgNode, **options: bool) -> "PairReader":
        """The reader that ``INPUT.RGB`` and ``INPUT.SAR`` describe; ``options`` as in the class."""
        return cls(*image_readers(cfg), may_lack_sar=cfg.INPUT.SAR.MAY_BE_EMPTY, **options)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the arrays depend on besides the files."""
        return {"rgb": self.rgb.settings, "sar": self.sar.settings}

    def read(
        self,
        rgb: Raster | None,
        sar: Raster | None,
        label: str | os.PathLike | None = None,
        label_reader: SeenLabelReader | None = None,
    ) -> PairSample:
        """Read one pair, opening each file once.

        Args:
            rgb: A file, or an array as for :meth:`mm_ovseg.raster.RGBReader.read_array`; None for SAR alone, whose
                sample has zeros for RGB and a mask that is False everywhere.
            sar: The same for SAR; None for a pair without SAR, whose sample has None for the SAR image and its mask.
            label: A label file on the grid of the others, which must then be files, too; None to read no labels.
            label_reader: Reader of the labels.

        Raises:
            DataError: An image cannot be read or used, an image that may not lack data has none, or neither has any,
                the files do not share one grid, or neither image is given.
        """
        if rgb is None and sar is None:
            raise DataError("A pair has neither RGB nor SAR; give at least one of them.")
        with ExitStack() as stack:
            rgb_source, sar_source, label_source = (
                stack.enter_context(RasterSource(raster, any_format=self._any_format))
                if isinstance(raster, str | os.PathLike)
                else None
                for raster in (rgb, sar, label)
            )
            sources = [source for source in (rgb_source, sar_source, label_source) if source is not None]
            for other in sources[1:]:
                sources[0].align(other)
            if self._fixed_sar_unit and sar_source is not None:
                self._check_sar_unit(sar_source)
            image = image_valid = sar_image = sar_valid = sem_seg = None
            may_be_empty = self._may_lack_one and rgb is not None and sar is not None
            if rgb is not None:
                image, image_valid = self.read_image(self.rgb, rgb_source or rgb, may_be_empty=may_be_empty)
            if sar is not None:
                may_be_empty = (may_be_empty or self.may_lack_sar) and image is not None and bool(image_valid.any())
                sar_image, sar_valid = self.read_image(self.sar, sar_source or sar, may_be_empty=may_be_empty)
            if image is None:
                image, image_valid = np.zeros(sar_image.shape, np.uint8), np.zeros(sar_image.shape[:2], bool)
            elif sar_image is not None and image.shape != sar_image.shape:
                (height, width), (sar_height, sar_width) = image.shape[:2], sar_image.shape[:2]
                raise DataError(
                    f"RGB is {width}x{height} pixels and SAR {sar_width}x{sar_height}; the images of a pair must "
                    "have the same size: resample one of them to the other's grid."
                )
            if label_source is not None:
                sem_seg = label_reader.read(label_source)
        return PairSample(image, image_valid, sar_image, sar_valid, sem_seg)

    def _check_sar_unit(self, source: RasterSource) -> None:
        declared = self.sar.suited_to(source).scale
        if declared != self.sar.scale:
            raise DataError(
                f"{source.name} declares its unit as {declared}, but INPUT.SAR.SCALE, with which speckle is drawn, is "
                f"{self.sar.scale}; set INPUT.SAR.SCALE {declared}."
            )

    def read_image(
        self, reader: ImageReader, raster: RasterSource | np.ndarray, *, may_be_empty: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read one of the two images with its reader; see :meth:`mm_ovseg.raster.ImageReader.read`.

        Raises:
            DataError: It cannot be read or used, or has no data and ``may_be_empty`` is off.
        """
        if isinstance(raster, RasterSource):
            name, (image, valid) = raster.name, reader.read(raster)
            if self._warn:
                for concern in reader.concerns(raster):
                    logger.warning(concern)
        elif isinstance(raster, np.ndarray):
            name = f"The {reader.kind} array"
            try:
                image, valid = reader.read_array(raster, name)
            except MemoryError as error:
                raise DataError(
                    f"{name} has shape {raster.shape}, which memory does not hold twice; cut it into tiles, or map its "
                    "file as a scene (mm-ovseg scene)."
                ) from error
        else:
            raise DataError(f"{reader.kind} is given as {type(raster).__name__}; give a path or a NumPy array.")
        if not valid.any():
            if not may_be_empty:
                raise DataError(f"{name} holds no data (every pixel is nodata); leave this pair out.")
            if self._may_lack_one:
                logger.warning(
                    "%s holds no data (every pixel is nodata); the map rests on the other image alone.", name
                )
        return image, valid
