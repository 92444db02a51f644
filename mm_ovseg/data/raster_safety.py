"""Which raster files are opened at all: files that others made may be made to harm. SECURITY.md says from what."""

import os
from collections.abc import Iterable
from pathlib import Path

from rasterio import DatasetReader

from mm_ovseg.errors import ConfigError, DataError

__all__ = [
    "DRIVERS_VARIABLE",
    "allowed_drivers",
    "check_before_opening",
    "check_blocks",
    "check_links",
    "check_whole_file",
]

LINKS_VARIABLE = "MM_OVSEG_ALLOW_LINKS"
DRIVERS_VARIABLE = "MM_OVSEG_GDAL_DRIVERS"
# Formats that hold their pixels themselves. Of the others of GDAL, many name files and URLs to read instead.
DRIVERS = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG")
PIXELS_VARIABLE = "MM_OVSEG_MAX_PIXELS"
MOST_PIXELS = 2**27  # a tile of Sentinel-2 at 10 m has 1.2e8
SIDE_FILES = (".ovr", ".OVR", ".msk", ".MSK")
TIFF_BEGINNINGS = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")


def allowed_drivers() -> list[str] | None:
    """The GDAL drivers that may read: :data:`DRIVERS`, and those that ``MM_OVSEG_GDAL_DRIVERS`` adds.

    Returns:
        Their names; None for all, where the variable is ``all``.
    """
    added = os.environ.get(DRIVERS_VARIABLE, "").replace(",", " ").split()
    return None if "all" in added else [*DRIVERS, *added]


def check_before_opening(path: str | os.PathLike) -> None:
    """Check that a path is a file of this machine, and that GDAL's files beside it are what their names say.

    Raises:
        DataError: There is no such file, its name is not UTF-8, or a mask or overviews beside it are no TIFF.
    """
    if not Path(path).is_file():
        raise DataError(f"{path} does not exist; check the path, or the dataset's declaration.")
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"The file name {os.fspath(path)!r} is not UTF-8; rename the file.") from error
    if allowed_drivers() is None:
        return
    for suffix in SIDE_FILES:
        # GDAL opens them with any driver, and so follows what they name.
        if os.path.isfile(side_file := f"{path}{suffix}") and not _is_tiff(side_file):
            raise DataError(f"{side_file} is no TIFF, so it is refused; remove it, or make it anew with gdaladdo.")


def check_blocks(dataset: DatasetReader, name: str | os.PathLike) -> None:
    """Check what an open raster would make GDAL do when it is read.

    Raises:
        DataError: It keeps its overviews in another file, or has blocks beyond the limit of :func:`check_whole_file`,
            which GDAL decodes whole.
    """
    if allowed_drivers() is not None and "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise DataError(f"{name} names another file to read its overviews from, which is refused; rewrite it.")
    bands = dataset.count if dataset.profile.get("interleave") == "pixel" else 1
    pixels = bands * max((height * width for height, width in dataset.block_shapes), default=0)
    if pixels > (limit := _most_pixels()):
        raise DataError(
            f"{name} is stored in blocks of {pixels} values, more than {limit}; store it in tiles (gdal_translate -co "
            f"TILED=YES), or, where you trust it, raise the environment variable {PIXELS_VARIABLE}."
        )


def check_whole_file(dataset: DatasetReader, name: str | os.PathLike) -> None:
    """Check, before a raster is decoded as a whole, that its header does not claim more pixels than memory should hold.

    The limit is :data:`MOST_PIXELS`, or that of ``MM_OVSEG_MAX_PIXELS``. Scenes, which are read by windows, have none.

    Raises:
        DataError: It does.
        ConfigError: The variable is no number.
    """
    pixels = dataset.width * dataset.height
    if pixels > (limit := _most_pixels()):
        raise DataError(
            f"{name} has {dataset.width}x{dataset.height} pixels, more than the {limit} that are read at once; cut it "
            f"into tiles, map it as a scene (tools/segment_scene.py), or raise the environment variable "
            f"{PIXELS_VARIABLE}."
        )


def check_links(files: Iterable[Path], root: Path) -> None:
    """Check that no symbolic link in a dataset makes files from elsewhere part of it.

    ``MM_OVSEG_ALLOW_LINKS=1`` in the environment allows it.

    Args:
        files: In ``root`` by their names.
        root: Of the dataset; may be a link itself.

    Raises:
        DataError: One lies elsewhere.
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
                f"{file} is, by a symbolic link, {real}, outside of the dataset's folder {root}; copy it there, or, "
                f"where the link is yours, set the environment variable {LINKS_VARIABLE}=1."
            )


def _most_pixels() -> int:
    text = os.environ.get(PIXELS_VARIABLE, str(MOST_PIXELS))
    if not text.isdecimal() or len(text) > 18:
        raise ConfigError(f"The environment variable {PIXELS_VARIABLE} is '{text}'; give a number of pixels.")
    return int(text)


def _is_tiff(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in TIFF_BEGINNINGS
    except OSError:
        return False
