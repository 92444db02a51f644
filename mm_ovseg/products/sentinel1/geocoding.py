"""Sentinel-1 images on a map: calibrated, placed, and written as a GeoTIFF of linear power."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.windows import Window
from tqdm import tqdm

from mm_ovseg.errors import DataError
from mm_ovseg.products.product import Preparation
from mm_ovseg.products.sentinel1.backscatter import Calibration
from mm_ovseg.products.sentinel1.control_points import ControlPoints, grid_around
from mm_ovseg.products.sentinel1.elevation import Elevation
from mm_ovseg.products.sentinel1.safe_folder import AGAIN, Annotation
from mm_ovseg.products.sentinel1.terrain import TerrainPlacement, ZeroDoppler
from mm_ovseg.raster import Grid, RasterSource, open_raster, write_geotiff
from mm_ovseg.raster.grid import nearest_turn
from mm_ovseg.raster.mapped_placement import MappedPlacement
from mm_ovseg.raster.opening import raster_errors
from mm_ovseg.raster.resampling import resample_image
from mm_ovseg.raster.virtual_raster import raster_state

__all__ = ["Image", "OnMap", "geocode"]

KNOWN = "KNOWN_HEIGHTS"  # tag of the share of the image whose height is known
MIN_KNOWN = 0.995  # below which there is a warning
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


@dataclass(frozen=True)
class OnMap:
    """A product on a map.

    Attributes:
        path: Its backscatter: gamma nought in linear power, float32, NaN without data.
        warnings: What the user must read.
    """

    path: Path
    warnings: tuple[str, ...]


def geocode(name: str, request: list, images: Sequence[Image], crs: CRS, preparation: Preparation) -> OnMap:
    """Put a product on a map, unless this was done before; it is interpolated bilinearly in power.

    With an elevation model it is terrain-corrected; otherwise its control points place it.

    Args:
        name: Name of the product.
        request: What the product is, ready for JSON.
        images: Its polarisations.
        crs: The map's reference system.
        preparation: Where and how.

    Raises:
        DataError: An image is damaged or of another product; the area or the elevation model does not fit, or cannot
            be read; or the file cannot be written.
        ConfigError: sarsen is not installed.
    """
    annotation = images[0].annotation
    points = ControlPoints(annotation, name, crs)
    grid, size = grid_around(points, annotation.spacing, crs, name, preparation), Grid(*annotation.size)
    request = [*request, crs.to_wkt(), *grid.shape, *grid.transform]
    if preparation.dem is None:
        path = _path(name, request, preparation)
        if not path.is_file():
            _write(path, images, MappedPlacement(size, grid, points))
        warning = (
            f"{name} is not terrain-corrected: in mountains its pixels are off by hundreds of metres; give an "
            "elevation model with --dem."
        )
        return OnMap(path, (warning,))
    with RasterSource(preparation.dem, any_format=True) as source:
        elevation = Elevation(source, grid, name)
        path = _path(name, [*request, raster_state(preparation.dem)], preparation)
        if not path.is_file():
            geometry = ZeroDoppler(annotation, crs, elevation.to_earth)
            _write(path, images, TerrainPlacement(size, grid, geometry, elevation))
    return OnMap(path, _warnings(name, elevation, path))


def _path(name: str, request: list, preparation: Preparation) -> Path:
    return preparation.folder / f"{name}_{hashlib.sha256(json.dumps(request).encode()).hexdigest()[:12]}.tif"


def _warnings(name: str, elevation: Elevation, path: Path) -> tuple[str, ...]:
    with open_raster(path) as file:
        known = float(file.tags()[KNOWN])
    found = []
    if known < MIN_KNOWN:
        found.append(f"{elevation.name} covers {known:.0%} of {name}; the rest has no data.")
    if not elevation.is_declared:
        found.append(
            f"{elevation.name} does not say what its heights refer to, so they count from the ellipsoid; if they are "
            "above sea level, as those of the Copernicus DEM, the image is off by up to 180 m: say so with gdal_edit "
            "-a_srs EPSG:4326+3855."
        )
    return tuple(found)


def _write(path: Path, images: Sequence[Image], placement: MappedPlacement) -> None:
    """Write the backscatter of a product on a map; memory use does not depend on its size."""
    logger.info("Writing %s.", path)
    tags: dict[str, str] = {}  # filled in with the last strip
    with ExitStack() as stack:
        files = [stack.enter_context(open_raster(image.path)) for image in images]
        for image, file in zip(images, files, strict=True):
            _check_belongs(image, file)
        write_geotiff(
            path,
            _strips(images, files, placement, tags),
            placement.target,
            bands=len(images),
            dtype="float32",
            nodata=float("nan"),
            descriptions=[image.annotation.polarisation for image in images],
            units=["power"] * len(images),
            tags=tags,
            level=1,
        )


def _strips(
    images: Sequence[Image], files: Sequence[Any], placement: MappedPlacement, tags: dict[str, str]
) -> Iterator[np.ndarray]:
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
    if isinstance(placement, TerrainPlacement):
        tags[KNOWN] = f"{placement.known_share():.4f}"


def _check_belongs(image: Image, file: Any) -> None:
    """Check that a file holds the image that an annotation describes."""
    annotation = image.annotation
    if file.shape[::-1] != annotation.size or file.dtypes != ("uint16",):
        samples, lines = annotation.size
        raise DataError(
            f"{image.path} holds {file.count} x {file.height} x {file.width} values of {file.dtypes[0]}, but its "
            f"annotation describes {lines} x {samples} of uint16; {AGAIN}."
        )
    points, _ = file.gcps
    if not points:
        return
    own, described = np.array([[point.x, point.y] for point in points]), annotation.control_points[:, 2:]
    own[:, 0] = nearest_turn(own[:, 0], described[0, 0], 360)
    described = np.stack([nearest_turn(described[:, 0], described[0, 0], 360), described[:, 1]], axis=1)
    if np.abs(own.mean(axis=0) - described.mean(axis=0)).max() > NEAR:
        raise DataError(f"{image.path} shows another place than its annotation describes; {AGAIN}.")
