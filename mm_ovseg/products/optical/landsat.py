"""Landsat products of Collection 2, levels 1 and 2: reflectance by the factors in their metadata.

The folder, its .tar or .zip, or the metadata file *_MTL in it.
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from rasterio.enums import ColorInterp

from mm_ovseg.data.cloud_mask import QA_PIXEL
from mm_ovseg.errors import DataError
from mm_ovseg.products.metadata import number_or_none, to_time
from mm_ovseg.products.optical.landsat_metadata import LandsatMetadata, read_landsat_metadata
from mm_ovseg.products.optical.optical_scene import OpticalScene, join_scenes
from mm_ovseg.products.product import Kind, Preparation, Product
from mm_ovseg.products.product_files import is_named_as, product_files
from mm_ovseg.raster import StackedBand
from mm_ovseg.raster.units import REFLECTANCE

__all__ = ["read", "recognises"]

NAME = re.compile(r"L[A-Z]\d\d_L[12][A-Z]{2}_\w+(?:\.(?:tar|tar\.gz|tgz|zip))?", re.IGNORECASE)
METADATA = re.compile(r"(?P<scene>L[A-Z]\d\d_\w+)_MTL\.(?:xml|json|txt)", re.IGNORECASE)
IMAGE = re.compile(r"L[A-Z]\d\d_\w+_(?:(?:SR_)?B[1-4]|QA_PIXEL)\.TIF", re.IGNORECASE)
FORMATS = (".xml", ".json", ".txt")  # of the metadata, the first that is there is read
COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
# Start of the sensor's name -> its bands of red, green and blue.
BANDS_OF = {"OLI": (4, 3, 2), "TM": (3, 2, 1), "ETM": (3, 2, 1)}
FACTORS = {"L1": "LEVEL1_RADIOMETRIC_RESCALING", "L2": "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"}
NO_DATA, FILL = 0, 1  # of the bands, of QA_PIXEL


def recognises(file: str | os.PathLike, kind: Kind) -> bool:
    """Whether it is a Landsat product."""
    return kind == "rgb" and is_named_as(file, NAME, METADATA)


def read(files: Sequence[str | os.PathLike], kind: Kind, preparation: Preparation) -> Product:
    """Read one product, or several in one UTM zone that store reflectance in the same way.

    Raises:
        DataError: One is incomplete or damaged, or they cannot be joined.
        ConfigError: Two archives have the same name.
    """
    what = "Landsat product with a metadata file *_MTL.xml, .json or .txt"
    found = product_files(files, _is_wanted, what=what, folder=preparation.folder)
    scenes = [_read_scene(Path(file), *of_product) for file, of_product in zip(files, found, strict=True)]
    return join_scenes(scenes, QA_PIXEL, FILL, preparation.folder)


def _is_wanted(path: PurePath) -> bool:
    return bool(METADATA.fullmatch(path.name) or IMAGE.fullmatch(path.name))


def _read_scene(given: Path, place: Path, found: Sequence[Path]) -> OpticalScene:
    """Read the product that a path names, whose files are in a place."""
    metadata = read_landsat_metadata(_metadata_file(given, place, found))
    contents, image = "PRODUCT_CONTENTS", "IMAGE_ATTRIBUTES"
    beside = {file.name.casefold(): file for file in found if file.parent == metadata.path.parent}
    time = f"{metadata.text(image, 'DATE_ACQUIRED', '')}T{metadata.text(image, 'SCENE_CENTER_TIME', '')}"
    spacecraft = metadata.text(image, "SPACECRAFT_ID").replace("_", " ").title()
    name, warning = metadata.text(contents, "LANDSAT_PRODUCT_ID"), ""
    quality = beside.get(metadata.text(contents, "FILE_NAME_QUALITY_L1_PIXEL", "").casefold())
    if quality is None:
        warning = (
            f"{name} lacks its pixel quality (an image *_QA_PIXEL.TIF), so its clouds are unknown; give a cloud mask "
            "with --clouds, or download the product again."
        )
    return OpticalScene(
        id=name,
        sensor=f"{spacecraft} {metadata.text(image, 'SENSOR_ID')}",
        acquired=to_time(time),
        bands=_bands(metadata, beside),
        cloud_files=() if quality is None else (quality,),
        details={
            "level": metadata.text(contents, "PROCESSING_LEVEL"),
            "path_row": "/".join(metadata.text(image, key, "") for key in ("WRS_PATH", "WRS_ROW")),
            "cloud_cover_percent": number_or_none(metadata.text(image, "CLOUD_COVER", "")),
        },
        warning=warning,
    )


def _metadata_file(given: Path, place: Path, found: Sequence[Path]) -> Path:
    if METADATA.fullmatch(given.name) and given.is_file():
        return given
    files = [file for file in found if METADATA.fullmatch(file.name)]
    scenes = {METADATA.fullmatch(file.name)["scene"].upper() for file in files}
    if len(scenes) != 1:
        have = f"{len(scenes)} Landsat scenes; give the metadata files (*_MTL.xml) of those that you mean"
        raise DataError(f"{place} contains {have if scenes else 'no metadata file *_MTL.xml, .json or .txt; add it'}.")
    return min(files, key=lambda file: (len(file.parts), FORMATS.index(file.suffix.lower())))


def _bands(metadata: LandsatMetadata, beside: dict[str, Path]) -> tuple[StackedBand, ...]:
    """The three bands, of the metadata and of the images beside it by name in lower case."""
    level = metadata.text("PRODUCT_CONTENTS", "PROCESSING_LEVEL")
    sensor = metadata.text("IMAGE_ATTRIBUTES", "SENSOR_ID")
    numbers = BANDS_OF.get(sensor.split("_")[0].rstrip("+"))
    group = FACTORS.get(level[:2])
    if numbers is None or group is None:
        raise DataError(
            f"{metadata.path} is of the sensor {sensor} and level {level}; give a product of level 1 or 2 of OLI, ETM+ "
            "or TM, which have red, green and blue."
        )
    height_of_sun = 1.0
    if level.startswith("L1"):  # whose reflectance is not corrected for the sun's height
        height_of_sun = math.sin(math.radians(metadata.number("IMAGE_ATTRIBUTES", "SUN_ELEVATION")))
        if height_of_sun <= 0:
            raise DataError(f"{metadata.path} was taken with the sun below the horizon; give a scene by day.")
    bands = []
    for number, color in zip(numbers, COLORS, strict=True):
        name = metadata.text("PRODUCT_CONTENTS", f"FILE_NAME_BAND_{number}")
        if name.casefold() not in beside:
            raise DataError(f"{metadata.path.parent} has no image {name}; download the product again.")
        scale, offset = (metadata.number(group, f"REFLECTANCE_{factor}_BAND_{number}") for factor in ("MULT", "ADD"))
        if scale <= 0:
            raise DataError(
                f"{metadata.path} has REFLECTANCE_MULT_BAND_{number} {scale:g}, which must be positive; download the "
                "product again."
            )
        bands.append(
            StackedBand(
                files=(beside[name.casefold()],),
                description=f"B{number}",
                meaning=color,
                scale=scale / height_of_sun,
                offset=offset / height_of_sun,
                nodata=NO_DATA,
                unit=REFLECTANCE,
            )
        )
    return tuple(bands)
