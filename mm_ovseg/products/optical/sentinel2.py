"""Sentinel-2 products, L2A and L1C: reflectance by the quantification and the offsets in their metadata.

The .SAFE folder, its zip, or the metadata file in it. Images are found by the end of their names, which is the same in
all versions of the format; the older ones hold several tiles.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from xml.etree import ElementTree

from rasterio.enums import ColorInterp

from mm_ovseg.data.cloud_mask import SCL
from mm_ovseg.errors import DataError
from mm_ovseg.products.metadata import find_text, number_or_none, read_xml, tag_name, to_number, to_time
from mm_ovseg.products.optical.optical_scene import OpticalScene, join_scenes
from mm_ovseg.products.product import Kind, Preparation, Product
from mm_ovseg.products.product_files import is_named_as, product_files
from mm_ovseg.raster import StackedBand, StackMask
from mm_ovseg.raster.units import REFLECTANCE

__all__ = ["read", "recognises"]

NAME = re.compile(r"S2[A-Z]_\w*MSIL(?:1C|2A)_\w+(?:\.SAFE)?(?:\.zip)?", re.IGNORECASE)
METADATA = re.compile(r"(?:MTD_MSI|S2[A-Z]_[A-Z]{4}_MTD_SAF)L(?:1C|2A)(?:_\w+)?\.xml", re.IGNORECASE)
IMAGE = re.compile(
    r"(?:.*/)?GRANULE/(?P<granule>[^/]+)/IMG_DATA/(?:R[12]0m/)?[^/]+_"
    r"(?:(?P<band>B0[234])(?:_10m)?|(?P<classes>SCL)(?:_[^/]+)?_20m)\.jp2",
    re.IGNORECASE | re.DOTALL,  # folders may be called anything
)
TILE = re.compile(r"_(T\d\d[A-Z]{3})(?:_|$)", re.IGNORECASE)
# Name of an image, its number in the metadata, and the colour.
BANDS = (("B04", "3", ColorInterp.red), ("B03", "2", ColorInterp.green), ("B02", "1", ColorInterp.blue))
QUANTIFICATION = {
    "1C": ("QUANTIFICATION_VALUE",),
    "2A": ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"),
}
OFFSET = {"1C": "RADIO_ADD_OFFSET", "2A": "BOA_ADD_OFFSET"}
FIRST_WITH_OFFSET = 4.0  # processing baseline
NO_DATA, MAX_CLASS = 0, 11


def recognises(file: str | os.PathLike, kind: Kind) -> bool:
    """Whether it is a Sentinel-2 product."""
    return kind == "rgb" and is_named_as(file, NAME, METADATA)


def read(files: Sequence[str | os.PathLike], kind: Kind, preparation: Preparation) -> Product:
    """Read one product, or several of tiles in one UTM zone.

    Raises:
        DataError: One is incomplete or damaged, or they cannot be joined.
        ConfigError: Two archives have the same name.
    """
    what = "Sentinel-2 product with MTD_MSIL2A.xml or MTD_MSIL1C.xml"
    found = product_files(files, _is_wanted, what=what, folder=preparation.folder)
    scenes = [_read_scene(*of_product) for of_product in found]
    levels = [scene.details["level"] for scene in scenes]
    if len(set(levels)) > 1:
        named = " and ".join(f"{scene.id} is {level}" for scene, level in zip(scenes, levels, strict=True))
        raise DataError(f"{named}; give products of one level.")
    product = join_scenes(scenes, SCL, NO_DATA, preparation.folder)
    if product.clouds is None:
        return product
    classes = tuple(file for scene in scenes for file in scene.cloud_files)
    return replace(product, mask=StackMask(files=classes, valid=range(NO_DATA + 1, MAX_CLASS + 1), outside=NO_DATA))


def _is_wanted(path: PurePath) -> bool:
    return bool(METADATA.fullmatch(path.name) or IMAGE.fullmatch(path.as_posix()))


def _read_scene(place: Path, found: Sequence[Path]) -> OpticalScene:
    metadata = [file for file in found if METADATA.fullmatch(file.name)]
    if len(metadata) != 1:
        have = "no MTD_MSIL2A.xml or MTD_MSIL1C.xml" if not metadata else f"{len(metadata)} Sentinel-2 products"
        raise DataError(f"{place} contains {have}; give one whole product, unpacked or as it was downloaded.")
    path, root = metadata[0], read_xml(metadata[0])
    level = tag_name(root).removeprefix("Level-").removesuffix("_User_Product")
    if level not in OFFSET:
        raise DataError(
            f"{path} is not the metadata of a Sentinel-2 L1C or L2A product ({tag_name(root)}); give one of those."
        )
    granules = _granules(path.parent, [file for file in found if file != path])
    uri = find_text(root, "PRODUCT_URI", "PRODUCT_URI_2A", "PRODUCT_URI_1C") or path.parent.name
    name = re.sub(r"\.SAFE$", "", uri, flags=re.IGNORECASE)
    orbit = find_text(root, "SENSING_ORBIT_NUMBER")
    classes = tuple(images["SCL"] for images in granules.values() if "SCL" in images)
    warning = ""
    if level == "2A" and len(classes) < len(granules):
        classes = ()
        warning = (
            f"{name} lacks its scene classification (an image *_SCL_20m.jp2), so its clouds are unknown; give a cloud "
            "mask with --clouds, or download the product again."
        )
    return OpticalScene(
        id=name,
        sensor=f"{find_text(root, 'SPACECRAFT_NAME') or 'Sentinel-2'} MSI",
        acquired=to_time(find_text(root, "PRODUCT_START_TIME", "DATATAKE_SENSING_START")),
        bands=_bands(root, level, path, granules),
        cloud_files=classes,
        details={
            "level": f"L{level}",
            "processing_baseline": find_text(root, "PROCESSING_BASELINE"),
            "tiles": [match[1].upper() if (match := TILE.search(granule)) else granule for granule in granules],
            "relative_orbit": int(orbit) if orbit.isdecimal() else None,
            "cloud_cover_percent": number_or_none(find_text(root, "Cloud_Coverage_Assessment")),
        },
        warning=warning,
    )


def _granules(folder: Path, images: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Granule -> its images by "B04", "B03", "B02" and "SCL"."""
    granules: dict[str, dict[str, Path]] = {}
    for image in images:
        match = IMAGE.fullmatch(image.as_posix())
        of_granule = granules.setdefault(match["granule"], {})
        name = (match["band"] or match["classes"]).upper()
        if name in of_granule:
            raise DataError(f"{of_granule[name]} and {image} are both {name} of one granule; remove one of them.")
        of_granule[name] = image
    for granule, of_granule in (granules or {"*": {}}).items():
        if missing := [name for name, _, _ in BANDS if name not in of_granule]:
            raise DataError(
                f"{folder} has no image of {missing[0]} at 10 m in GRANULE/{granule}/IMG_DATA (a file "
                f"*_{missing[0]}_10m.jp2, or *_{missing[0]}.jp2 in L1C); download the product again."
            )
    return granules


def _bands(
    root: ElementTree.Element, level: str, path: Path, granules: dict[str, dict[str, Path]]
) -> tuple[StackedBand, ...]:
    """The three bands, with the scale and offset of: reflectance = (value + offset) / quantification."""
    name = QUANTIFICATION[level][0]
    quantification = to_number(find_text(root, *QUANTIFICATION[level]), name, path)
    if quantification <= 0:
        raise DataError(f"{path} has {name} {quantification:g}, which must be positive; download the product again.")
    offsets = {
        element.get("band_id"): to_number(element.text or "", OFFSET[level], path)
        for element in root.iter()
        if tag_name(element) == OFFSET[level]
    }
    if not offsets and _baseline(root) < FIRST_WITH_OFFSET:
        offsets = {number: 0.0 for _, number, _ in BANDS}
    if missing := [band for band, number, _ in BANDS if number not in offsets]:
        raise DataError(
            f"{path} does not say the offset of {missing[0]} ({OFFSET[level]}), which is not 0 in processing baseline "
            f"'{find_text(root, 'PROCESSING_BASELINE')}'; download the product again, or give its images with "
            "INPUT.RGB.RANGE."
        )
    special = {
        find_text(element, "SPECIAL_VALUE_TEXT").upper(): find_text(element, "SPECIAL_VALUE_INDEX")
        for element in root.iter()
        if tag_name(element) == "Special_Values"
    }
    nodata = to_number(special.get("NODATA", str(NO_DATA)), "NODATA", path)
    return tuple(
        StackedBand(
            files=tuple(images[band] for images in granules.values()),
            description=band,
            meaning=color,
            scale=1 / quantification,
            offset=offsets[number] / quantification,
            nodata=nodata,
            unit=REFLECTANCE,
        )
        for band, number, color in BANDS
    )


def _baseline(root: ElementTree.Element) -> float:
    """The processing baseline; infinite if it is unknown, so that no offset is assumed to be 0."""
    text = find_text(root, "PROCESSING_BASELINE")
    return float(text) if re.fullmatch(r"\d\d\.\d\d", text) else float("inf")
