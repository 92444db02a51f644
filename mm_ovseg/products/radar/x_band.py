"""Geocoded images of Capella, ICEYE and Umbra: amplitudes, which become backscatter by a factor in their metadata."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import parse_json
from mm_ovseg.products.metadata import read_json, read_xml, tag_name
from mm_ovseg.products.product import Kind, Preparation, Product
from mm_ovseg.products.radar.x_band_makers import Calibration, XBandImage, find_value, parse_name
from mm_ovseg.products.sar_image import POLARISATIONS, check_one_pass, files_within, polarisation_band
from mm_ovseg.raster import RasterSource, StackedBand, open_raster, read_raster_info
from mm_ovseg.raster.grid import sample_windows

__all__ = ["read", "recognises"]

DARKEST, BRIGHTEST = 2, 98  # percentiles, of an example of a range
ORTHORECTIFY = {"gcps": "gdalwarp -tps", "rpcs": "gdalwarp -rpc -to RPC_DEM=dem.tif"}


def recognises(file: str | os.PathLike, kind: Kind) -> bool:
    """Whether its name is that of an image of these makers, or it is a folder or zip that contains some."""
    return kind == "sar" and bool(_images([file]))


def read(files: Sequence[str | os.PathLike], kind: Kind, preparation: Preparation) -> Product:
    """Read images of one pass, one for each polarisation.

    Raises:
        DataError: An image is complex, not on a grid, or not calibrated by its metadata; or there are several of a
            polarisation, makers or passes; or a file cannot be read.
    """
    found = _images(files, preparation.folder)
    images = [image for image in found if image.groups]
    named = set(map(Path, files))
    if refused := [image for image in found if not image.groups and (not images or image.path in named)]:
        raise DataError(
            f"{refused[0].path} holds complex values; give the geocoded image (GEO, GEC or GRD) of that scene instead."
        )
    check_one_pass({str(image.path): image.start for image in images})
    first = images[0]
    bands: dict[str, StackedBand] = {}
    quantities = set()
    for image in images:
        polarisation, calibration = _calibration(image)
        if polarisation in bands or image.maker is not first.maker:
            raise DataError(f"{first.path} and {image.path} do not belong together; map them one by one.")
        unit = "" if calibration.scale is None else "amplitude"
        bands[polarisation] = polarisation_band([image.path], polarisation, unit, scale=calibration.scale)
        quantities.add(calibration.quantity)
    bands = {name: bands[name] for name in (*POLARISATIONS, "") if name in bands}
    return Product(
        kind=kind,
        ids=tuple(image.groups["product"] for image in images),
        bands=tuple(bands.values()),
        acquired=tuple(image.start for image in images),
        sensor=f"{first.maker.name}-{first.groups['sensor']} SAR",
        details={
            "producer": first.maker.name,
            "backscatter": " and ".join(sorted(quantities)),
            "terrain_corrected": all(image.is_terrain_corrected for image in images),
        },
        warnings=tuple(_warnings(images, list(bands.values()))),
    )


def _images(names: Sequence[str | os.PathLike], folder: Path | None = None) -> list[XBandImage]:
    paths = files_within(names, lambda path: parse_name(path) is not None or path.suffix in (".json", ".xml"), folder)
    return [image for path in paths if (image := parse_name(path)) is not None]


def _calibration(image: XBandImage) -> tuple[str, Calibration]:
    """The polarisation ("" if unknown) and calibration of an image.

    Raises:
        DataError: The image is not on a grid; or its metadata cannot be read, or lacks its calibration.
    """
    names = " or ".join(path.name for path in image.metadata)
    placed_by = read_raster_info(image.path).placed_by
    if placed_by in ORTHORECTIFY:
        raise DataError(
            f"{image.path} is not on a grid; orthorectify it ({ORTHORECTIFY[placed_by]}) into another folder under the "
            f"same name, and copy {names} there."
        )
    metadata = _metadata(image)
    try:
        calibration = image.maker.calibrate(metadata)
    except ValueError as error:
        raise DataError(
            f"{image.path} cannot be calibrated, since neither its tags nor {names} beside it give {error}; put the "
            "metadata that it came with beside it."
        ) from error
    named = (
        image.groups.get("polarisation")
        or find_value(metadata, "polarizations")
        or find_value(metadata, "polarization")
    )
    polarisation = str((named[0] if isinstance(named, list) else named) or image.maker.polarisation).upper()
    return polarisation if polarisation in POLARISATIONS else "", calibration


def _metadata(image: XBandImage) -> list[Any]:
    """The tags of an image, what is JSON among them, and the content of the files beside it.

    Raises:
        DataError: A file cannot be read.
    """
    with open_raster(image.path) as file:
        tags = file.tags()
    parts: list[Any] = [tags]
    for text in tags.values():
        with suppress(ValueError):
            parts += [parse_json(text)] if text.lstrip().startswith("{") else []
    for path in image.metadata:
        if path.is_file():
            parts.append(_read_xml(path) if path.suffix == ".xml" else read_json(path))
    return parts


def _read_xml(path: Path) -> dict[str, str | None]:
    return {tag_name(element): element.text for element in read_xml(path).iter()}


def _warnings(images: Sequence[XBandImage], bands: Sequence[StackedBand]) -> Iterator[str]:
    for image in images:
        if not image.is_terrain_corrected:
            yield (
                f"{image.path} is not terrain-corrected by {image.maker.name}, so what is above or below the height "
                "that it assumes is displaced; check that it lies on the optical image."
            )
    for band in bands:
        if not band.unit and (example := _example_of_range(band.files[0])):
            yield (
                f"{band.files[0]} holds amplitudes without a calibration; set INPUT.SAR.SCALE to amplitude and "
                f'INPUT.SAR.RANGE to the dB (20 log10 of its values) that become 0 and 255, such as "{example}", '
                f"which holds {BRIGHTEST - DARKEST}% of its values."
            )


def _example_of_range(path: Path) -> list[float]:
    """The dB, rounded, between which most values of an image of amplitudes are; empty for 8-bit images."""
    with RasterSource(path) as source:
        if source.bands[0].dtype == "uint8":
            return []
        sample = np.concatenate([source.read([1], window)[0].ravel() for window in sample_windows(*source.grid.shape)])
    values = sample[sample > 0]
    if not values.size:
        return []
    low, high = 20 * np.log10(np.percentile(values.astype(np.float64), (DARKEST, BRIGHTEST)))
    return [float(math.floor(low)), float(math.ceil(high))]
