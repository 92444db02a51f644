"""Mosaics and band stacks in GDAL's VRT format, which names other files to read: only plain lists are accepted."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

from rasterio import DatasetReader
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from mm_ovseg.errors import DataError
from mm_ovseg.files import file_state
from mm_ovseg.plain_data import parse_xml
from mm_ovseg.raster.trust import ADDRESS, REMOTE_DRIVERS, check_before_opening, check_blocks

__all__ = ["check_virtual_raster", "is_virtual_raster", "local_sources", "raster_state"]

# Formats that a VRT may name. GDAL tries all of its drivers on them; these formats have a NUL among their first bytes,
# so that no text format, which could name files and URLs in turn, recognises them. JPEG need not have one.
SOURCE_DRIVERS = ("GTiff", "PNG", "JP2OpenJPEG")
# What gdalbuildvrt and gdal_translate write, in lower case since GDAL ignores case: nothing that computes or warps.
ELEMENTS = re.compile(
    "vrtdataset|srs|geotransform|metadata|mdi|gcplist|gcp|vrtrasterband|description|unittype|offset|scale|colorinterp|"
    "colortable|entry|categorynames|category|nodatavalue|hidenodatavalue|histograms|histitem|histmin|histmax|"
    "bucketcount|includeoutofrange|approximate|histcounts|maskband|overviewlist|simplesource|complexsource|"
    "sourcefilename|sourceband|sourceproperties|srcrect|dstrect|nodata|usemaskband|scaleoffset|scaleratio|lut|"
    "colortablecomponent|resampling|blockxsize|blockysize"
)
# Elements and attributes of any kind of VRT that name another raster.
SOURCES, SOURCE_KEYS = ("sourcefilename", "sourcedataset"), ("x_dataset", "y_dataset")
# Names that GDAL opens over the network or that are defined within the VRT.
REMOTE = re.compile(rf"\s*(/vsi|<|{ADDRESS.pattern}|({'|'.join(REMOTE_DRIVERS)}):)", re.IGNORECASE)
PLAIN_CLASSES = (None, "VRTSourcedRasterBand")
SOURCE_ATTRIBUTES = ("relativetovrt", "shared")


def is_virtual_raster(path: str | os.PathLike) -> bool:
    """Whether a file has the suffix ``.vrt``."""
    return Path(path).suffix.lower() == ".vrt"


def check_virtual_raster(path: str | os.PathLike) -> None:
    """Check that a VRT file does nothing but place bands of rasters of this machine.

    The rasters may be in any folder. They are opened to check that their format is allowed.

    Raises:
        DataError: It is not a VRT, computes or warps, or names anything but GeoTIFF, PNG or JPEG 2000 files.
    """
    for source in dict.fromkeys(_sources(Path(os.path.abspath(path)))):
        try:
            check_before_opening(source)
            with DatasetReader(source, driver=list(SOURCE_DRIVERS), sharing=False) as dataset:
                check_blocks(dataset, source)
        except (RasterioError, CPLE_BaseError, DataError) as error:
            raise DataError(
                f"{path} is a mosaic of {source}, which cannot be read as a GeoTIFF, PNG or JPEG 2000 file ({error}); "
                "add it, or build the mosaic again with gdalbuildvrt."
            ) from error


def local_sources(path: str | os.PathLike) -> list[Path]:
    """The files that a VRT of any kind names; empty if the file, whatever its name, is not a VRT.

    Raises:
        DataError: It names something that is not on this machine.
    """
    with open(path, "rb") as file:
        if b"<vrtdataset" not in file.read(4096).lower():
            return []
    files = []
    for element in _root(Path(path)).iter():
        if element.tag.lower() not in SOURCES and element.get("key", "").lower() not in SOURCE_KEYS:
            continue
        name = element.text or ""
        if REMOTE.match(name):
            raise DataError(
                f"{path} is a mosaic of {name!r}, which is not a file of this machine; download it first, and build "
                "the mosaic from files."
            )
        files.append(Path(path).parent / name)
    return [file for file in files if file.is_file()]


def raster_state(path: Path) -> list:
    """What changes when a raster or, if it is a mosaic, a source of it does; see :func:`mm_ovseg.files.file_state`.

    Raises:
        DataError: as :func:`local_sources`.
    """
    sources = local_sources(path) if path.is_file() else []
    return [file_state(path), *map(raster_state, sources)]


def _root(path: Path) -> ElementTree.Element:
    try:
        text = path.read_text(encoding="utf-8")
        # Without comments, CDATA, types and entities there is only one way to read it, so GDAL reads the same.
        root = parse_xml(text) if "<!" not in text and "\0" not in text else None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a VRT file ({error}); build it again with gdalbuildvrt.") from error
    if root is None or root.tag.lower() != "vrtdataset":
        raise DataError(f"{path} is not a VRT file, although its name says so; build it again with gdalbuildvrt.")
    return root


def _sources(path: Path) -> list[str]:
    """The absolute paths of the files that a plain VRT names, each of which is a file by that name."""
    sources = []
    for element in _root(path).iter():
        tag, attributes = element.tag.lower(), {name.lower(): value for name, value in element.attrib.items()}
        if not ELEMENTS.fullmatch(tag) or attributes.get("subclass") not in PLAIN_CLASSES:
            what = attributes.get("subclass", element.tag)
            raise DataError(
                f"{path} does more than place rasters next to each other ({what}), which is refused in a VRT; "
                "convert it with gdal_translate."
            )
        if tag == "sourcefilename":
            sources.append(_source(path, element.text or "", attributes))
    return sources


def _source(path: Path, name: str, attributes: dict[str, str]) -> str:
    if unknown := sorted(attributes.keys() - set(SOURCE_ATTRIBUTES)):
        raise DataError(f"{path} opens {name} with the attribute {unknown[0]}, which is refused; make it a GeoTIFF.")
    if not os.path.isabs(name):
        if attributes.get("relativetovrt") != "1":
            raise DataError(
                f"{path} is a mosaic of {name!r} without saying in which folder it is; build it again "
                "with gdalbuildvrt."
            )
        name = str(path.parent / name)
    if is_virtual_raster(name):
        raise DataError(f"{path} is a mosaic of another one, {name}; build it from the files themselves.")
    return name
