"""Sentinel-1 images on a map: calibrated, placed, and written as a GeoTIFF of linear power."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio import DatasetReader
from rasterio.windows import Window
from tqdm import tqdm

from mm_ovseg.errors import DataError
from mm_ovseg.products.sentinel1_calibration import Calibration
from mm_ovseg.products.sentinel1_safe import AGAIN, Annotation
from mm_ovseg.raster import Placement, open_raster, write_geotiff
from mm_ovseg.raster.grid import nearest_turn
from mm_ovseg.raster.opening import raster_errors
from mm_ovseg.raster.resampling import resample_image

__all__ = ["Image", "write_backscatter"]

logger = logging.getLogger(__name__)

ROWS, COLUMNS = 512, 1024  # pixels at once; the rows of a block of our GeoTIFFs
NEAR = 1.0  # degrees


@dataclass(frozen=True)
class Image:
    """The image of one polarisation.

    Attributes:
        path: Its digital numbers.
        annotation: What describes it.
        calibration: Converts it to backscatter.
    """

    path: Path
    annotation: Annotation
    calibration: Calibration


def write_backscatter(path: Path, images: Sequence[Image], placement: Placement) -> None:
    """Write the backscatter of images on a map: gamma nought in linear power, float32, NaN without data.

    It is interpolated bilinearly in power. Memory use does not depend on the size of the images.

    Args:
        path: The file, which appears when it is complete.
        images: The polarisations of one product.
        placement: Places the map's grid on the images.

    Raises:
        DataError: An image is damaged or of another product, or the file cannot be written.
    """
    logger.info("Writing the backscatter of %s.", images[0].path)
    with ExitStack() as stack:
        files = [stack.enter_context(open_raster(image.path)) for image in images]
        for image, file in zip(images, files, strict=True):
            _check_belongs(image, file)
        write_geotiff(
            path,
            _strips(images, files, placement),
            placement.target,
            bands=len(images),
            dtype="float32",
            nodata=float("nan"),
            descriptions=[image.annotation.polarisation for image in images],
            units=["power"] * len(images),
            level=1,
        )


def _strips(images: Sequence[Image], files: Sequence[DatasetReader], placement: Placement) -> Iterator[np.ndarray]:
    def read(row: int, column: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        values, valid = np.empty((height, width, len(images)), np.float32), np.ones((height, width), bool)
        for channel, (image, file) in enumerate(zip(images, files, strict=True)):
            with raster_errors(image.path):
                numbers = file.read(1, window=Window(column, row, width, height))
            values[..., channel] = image.calibration.power(numbers, row, column)
            valid &= numbers > 0  # 0 is beyond the edge of the swath
        return values, valid

    grid = placement.target
    for row in tqdm(range(0, grid.height, ROWS), unit="strip", disable=None):
        height = min(ROWS, grid.height - row)
        strip = np.full((len(images), height, grid.width), np.nan, np.float32)
        for column in range(0, grid.width, COLUMNS):
            width = min(COLUMNS, grid.width - column)
            values, valid = resample_image(read, placement, row, column, height, width)
            strip[:, :, column : column + width] = np.where(valid, np.moveaxis(values, 2, 0), np.nan)
        yield strip


def _check_belongs(image: Image, file: DatasetReader) -> None:
    """Check that a file holds the image that an annotation describes."""
    annotation = image.annotation
    if file.shape != (annotation.lines, annotation.samples) or file.dtypes != ("uint16",):
        raise DataError(
            f"{image.path} holds {file.count} x {file.height} x {file.width} values of {file.dtypes[0]}, but its "
            f"annotation describes {annotation.lines} x {annotation.samples} of uint16; {AGAIN}."
        )
    points, _ = file.gcps
    if not points:
        return
    own, described = np.array([[point.x, point.y] for point in points]), annotation.control_points[:, 2:]
    own[:, 0] = nearest_turn(own[:, 0], described[0, 0], 360)
    described = np.stack([nearest_turn(described[:, 0], described[0, 0], 360), described[:, 1]], axis=1)
    if np.abs(own.mean(axis=0) - described.mean(axis=0)).max() > NEAR:
        raise DataError(f"{image.path} shows another place than its annotation describes; {AGAIN}.")
