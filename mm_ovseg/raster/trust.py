"""Which files may be opened as rasters: an untrusted file may be malicious. SECURITY.md lists what is prevented.

Readers take ``any_format``. Without it, for untrusted files, only formats that contain their pixels themselves are
opened; with it, for files that users name on their own command line, every local format that GDAL reads. Neither
accesses the network.
"""

import os
import re
import stat
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

import rasterio
from rasterio import DatasetReader

from mm_ovseg.errors import ConfigError, DataError

__all__ = [
    "DRIVERS_VARIABLE",
    "allowed_drivers",
    "check_before_opening",
    "check_blocks",
    "check_file",
    "check_links",
    "check_whole_file",
]

LINKS_VARIABLE = "MM_OVSEG_ALLOW_LINKS"
DRIVERS_VARIABLE = "MM_OVSEG_GDAL_DRIVERS"
# Formats that contain their pixels themselves. Many of GDAL's others name files and URLs to read instead.
STRICT_DRIVERS = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG")
# Drivers that read from elsewhere, in any build of GDAL.
REMOTE_DRIVERS = {"DAAS", "EEDA", "EEDAI", "GeoRaster", "HTTP", "NGW", "OGCAPI", "PLMOSAIC", "PostGISRaster", "WCS"}
REMOTE_DRIVERS |= {"RASDAMAN", "STACIT", "STACTA", "WMS", "WMTS"}
PIXELS_VARIABLE = "MM_OVSEG_MAX_PIXELS"
MAX_PIXELS = 2**27  # a Sentinel-2 tile at 10 m has 1.2e8
SIDE_FILES = (".ovr", ".OVR", ".msk", ".MSK")
TIFF_BEGINNINGS = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|(https?|ftp|s3|gs):/", re.IGNORECASE)  # pathlib reduces two slashes to one
SUBDATASET = re.compile(r"[A-Z][A-Z0-9_]+:(?P<inner>.+)", re.IGNORECASE | re.DOTALL)
EXAMPLES = ("*.tif", "*.tiff", "*.jp2", "*.png", "*/*.tif", "*/*.tiff", "*/*.jp2", "*/*/*/*/*.jp2")


def allowed_drivers(any_format: bool) -> list[str] | None:
    """The GDAL drivers that may be used.

    Args:
        any_format: All that read files of this machine, instead of :data:`STRICT_DRIVERS` and those that the
            environment variable ``MM_OVSEG_GDAL_DRIVERS`` adds.

    Returns:
        Their names; None for all drivers, if the variable is ``all``.
    """
    added = os.environ.get(DRIVERS_VARIABLE, "").replace(",", " ").split()
    if "all" in added:
        return None
    if not any_format:
        return [*STRICT_DRIVERS, *added]
    with rasterio.Env() as env:
        return sorted(env.drivers().keys() - REMOTE_DRIVERS)


def check_before_opening(path: str | os.PathLike, any_format: bool = False) -> None:
    """Check that a path is a file of this machine, and that GDAL's sidecar files are of the type they claim to be.

    Args:
        path: The file; with ``any_format`` also a raster within one, as GDAL names it (``NETCDF:"sar.nc":vv``).
        any_format: See :func:`allowed_drivers`.

    Raises:
        DataError: It is not a file (the message says what it is), its name is not UTF-8, or a mask or overviews
            beside it are not TIFFs.
    """
    text = os.fspath(path)
    if not os.path.exists(text) and (container := _container(text)):
        if not any_format or "/vsi" in text:
            raise DataError(
                f"{text} is a raster within {container}, which is not read here; write it to a GeoTIFF with "
                "gdal_translate."
            )
        text = container
    check_file(text, "image")
    if allowed_drivers(any_format) is None:
        return
    for suffix in SIDE_FILES:
        # GDAL opens them with any driver, and so reads files that they name.
        if os.path.exists(side_file := f"{text}{suffix}") and not (os.path.isfile(side_file) and _is_tiff(side_file)):
            raise DataError(f"{side_file} is not a TIFF, so it is refused; remove it, or make it again with gdaladdo.")


def check_file(path: str | os.PathLike, kind: str = "file", *, may_be_folder: bool = False) -> None:
    """Check that a path is a non-empty file of this machine.

    Args:
        path: The file.
        kind: "image" or "file", for messages.
        may_be_folder: Whether the format's data sets are folders.

    Raises:
        DataError: It is a URL, a folder, a device, empty or missing, or its name is not UTF-8.
    """
    text = os.fspath(path)
    try:
        text.encode()
        status = os.stat(text)
    except UnicodeEncodeError as error:
        raise DataError(f"The file name {text!r} is not UTF-8; rename the file.") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        if text.startswith("/vsi"):
            message = f"{text}: {text.split('/')[1]} paths are not read; unpack or download it, and give the file."
        elif ADDRESS.match(text):
            message = f"{text} is an address; download the file first, and give the file."
        else:
            message = f"{text or repr(text)} does not exist; check the path, or the dataset's declaration."
        raise DataError(message) from error
    if stat.S_ISDIR(status.st_mode):
        if may_be_folder:
            return
        products = sorted(Path(text).glob("*.SAFE"))
        if kind == "image" and products:
            raise DataError(f"{text} is a folder of products; give one of them, such as {products[0]}.")
        images = chain.from_iterable(sorted(Path(text).glob(pattern)) for pattern in EXAMPLES if kind == "image")
        example = "".join(f", such as {image}" for image in islice(images, 1))
        product = ", or make rasters of the product with mm-ovseg prepare" if Path(text).suffix == ".SAFE" else ""
        raise DataError(f"{text} is a folder; give the {kind} in it{example}{product}.")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{text} is not a regular file; give {'an image file' if kind == 'image' else 'one'}.")
    if not status.st_size:
        raise DataError(f"{text} is an empty file (0 bytes); replace it.")


def check_blocks(dataset: DatasetReader, name: str | os.PathLike, any_format: bool = False) -> None:
    """Check what reading an open raster would make GDAL do.

    Raises:
        DataError: It keeps its overviews in another file, or has blocks (which GDAL decodes as a whole) beyond the
            limit of :func:`check_whole_file`.
    """
    if not any_format and allowed_drivers(any_format) is not None and "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise DataError(f"{name} refers to another file for its overviews, which is refused; rewrite it.")
    bands = dataset.count if dataset.profile.get("interleave") == "pixel" else 1
    pixels = bands * max((height * width for height, width in dataset.block_shapes), default=0)
    if pixels > (limit := max_pixels()):
        raise DataError(
            f"{name} is stored in blocks of {pixels} values, more than {limit}; store it in tiles (gdal_translate -co "
            f"TILED=YES), or, if you trust it, raise the environment variable {PIXELS_VARIABLE}."
        )


def check_whole_file(dataset: DatasetReader, name: str | os.PathLike) -> None:
    """Check that a raster's header does not claim too many pixels, before it is decoded as a whole.

    The limit is :data:`MAX_PIXELS` or ``MM_OVSEG_MAX_PIXELS``. Scenes, which are read by windows, have no limit.

    Raises:
        DataError: It does.
        ConfigError: The variable is not a number.
    """
    pixels = dataset.width * dataset.height
    if pixels > (limit := max_pixels()):
        raise DataError(
            f"{name} has {dataset.width}x{dataset.height} pixels, more than the {limit} that are read at once; cut it "
            f"into tiles, map it as a scene (mm-ovseg scene), or raise the environment variable "
            f"{PIXELS_VARIABLE}."
        )


def check_links(files: Iterable[Path], root: Path) -> None:
    """Check that no symbolic link makes files from elsewhere part of a dataset.

    The environment variable ``MM_OVSEG_ALLOW_LINKS=1`` allows such links.

    Args:
        files: Files whose paths are within ``root``.
        root: Folder of the dataset; may itself be a link.

    Raises:
        DataError: A file is elsewhere.
    """
    if os.environ.get(LINKS_VARIABLE) == "1":
        return
    inside, folders = root.resolve(), {}
    for file in files:
        if file.parent not in folders:
            folders[file.parent] = file.parent.resolve()
        real = file.resolve() if file.is_symlink() else folders[file.parent] / file.name
        if not real.is_relative_to(inside):
            raise DataError(
                f"{file} is a symbolic link to {real}, outside the dataset's folder {root}; copy it there, or, "
                f"if the link is yours, set the environment variable {LINKS_VARIABLE}=1."
            )


def max_pixels() -> int:
    """The largest number of pixels read at once, and of values in a block.

    Raises:
        ConfigError: ``MM_OVSEG_MAX_PIXELS`` is not a number.
    """
    text = os.environ.get(PIXELS_VARIABLE, str(MAX_PIXELS))
    if not text.isdecimal() or len(text) > 18:
        raise ConfigError(f"The environment variable {PIXELS_VARIABLE} is '{text}'; give a number of pixels.")
    return int(text)


def _container(name: str) -> str | None:
    """The file that contains a raster named in GDAL's syntax (``NETCDF:"sar.nc":vv``); None for other names."""
    match = SUBDATASET.fullmatch(name)
    if match is None or ADDRESS.match(name):
        return None
    parts = (inner := match["inner"]).split(":")  # the path is quoted or between colons
    spans = (":".join(parts[start:end]) for start in range(len(parts)) for end in range(len(parts), start, -1))
    candidates = (candidate.strip('"') for candidate in chain(re.findall(r'"([^"]+)"', inner), spans))
    return next((candidate for candidate in candidates if "\0" not in candidate and os.path.isfile(candidate)), None)


def _is_tiff(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in TIFF_BEGINNINGS
    except OSError:
        return False
