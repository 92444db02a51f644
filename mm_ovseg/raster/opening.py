"""Opening rasters: what :mod:`mm_ovseg.raster.trust` allows, read strictly, with GDAL's errors as one sentence."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import rasterio
from rasterio import DatasetReader
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from mm_ovseg.errors import MAX_REASON, DataError
from mm_ovseg.raster.remote_file import RemoteFile
from mm_ovseg.raster.trust import DRIVERS_VARIABLE, allowed_drivers, check_before_opening, check_blocks
from mm_ovseg.raster.virtual_raster import check_virtual_raster, is_virtual_raster, local_sources

__all__ = ["open_raster", "raster_errors"]

# By default GDAL fills the missing part of a truncated JPEG with grey, and of a PNG with uninitialised memory.
STRICT_READING = {"GDAL_ERROR_ON_LIBJPEG_WARNING": True, "GDAL_PNG_WHOLE_IMAGE_OPTIM": False}
# GDAL may only use those files beside an untrusted one whose exact names were checked.
NO_SIDE_FILES = {"GDAL_DISABLE_READDIR_ON_OPEN": True}
# A proxy that does not exist, so that no driver reaches what a file names on the network.
NO_NETWORK = {"GDAL_HTTP_PROXY": "127.0.0.1:9", "GDAL_HTTPS_PROXY": "127.0.0.1:9", "GDAL_HTTP_MAX_RETRY": "0"}
# In case NO_PROXY is set in the environment: GDAL's file systems at least open nothing but this name.
NO_NETWORK |= {"CPL_VSIL_CURL_ALLOWED_FILENAME": "nothing"}
NOT_RECOGNIZED = "not recognized as being in a supported file format"


@contextmanager
def open_raster(path: str | os.PathLike, *, any_format: bool = False) -> Iterator[DatasetReader]:
    """Open a raster; any error of GDAL, on opening or later, becomes a DataError.

    Args:
        path: The file; with ``any_format`` also a raster within one (``NETCDF:"sar.nc":vv``); or a
            :class:`~mm_ovseg.raster.remote_file.RemoteFile`.
        any_format: Open every local format that GDAL reads; by default only those that are safe for untrusted files.

    Raises:
        DataError: :mod:`mm_ovseg.raster.trust` or GDAL refuses the file.
    """
    if not isinstance(path, RemoteFile):
        check_before_opening(path, any_format)
    with raster_errors(path, any_format=any_format), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # plain PNG and JPEG are welcome
        if isinstance(path, RemoteFile):
            with path.open() as dataset:
                check_blocks(dataset, path)
                yield dataset
            return
        drivers = allowed_drivers(any_format)
        if drivers is not None and "VRT" not in drivers and is_virtual_raster(path):
            check_virtual_raster(path)
            drivers = ["VRT"]
        elif drivers is not None and any_format:
            _check_sources(path)
        # Absolute, since some relative names look like URLs; rasterio.open takes no list of drivers.
        name = os.path.abspath(path) if os.path.exists(path) else os.fspath(path)
        with DatasetReader(name, driver=drivers, sharing=False) as dataset:
            if not dataset.count:
                names = [name for name in dataset.subdatasets if name]
                parts = f" but {len(names)} within it; give one of them, such as {names[0]}" if names else ""
                raise DataError(f"{path} contains no raster itself{parts or '; give an image file'}.")
            check_blocks(dataset, path, any_format)
            yield dataset


@contextmanager
def raster_errors(path: str | os.PathLike, *, any_format: bool = False) -> Iterator[None]:
    """Read strictly within the block, and turn any error of GDAL into a DataError."""
    settings = STRICT_READING if any_format else {**STRICT_READING, **NO_SIDE_FILES}
    if allowed_drivers(any_format) is not None:
        settings = {**settings, **NO_NETWORK}
    try:
        with rasterio.Env(**settings):
            yield
        if isinstance(path, RemoteFile):
            path.check()
    except (RasterioError, CPLE_BaseError) as error:  # rasterio lets some of GDAL's own errors through
        if isinstance(path, RemoteFile):
            path.check()
        reason = " ".join(str(error.__cause__ or error).split())[:MAX_REASON]
        message = f"({reason}); it may be damaged: replace it"
        if NOT_RECOGNIZED in reason:
            other = "" if any_format else f", or allow its format with {DRIVERS_VARIABLE} (SECURITY.md)"
            message = f"as a PNG, JPEG, GeoTIFF or JPEG 2000 image; convert it with gdal_translate{other}"
        raise DataError(f"{path} cannot be read {message}.") from error


def _check_sources(path: str | os.PathLike, mosaics: tuple[str, ...] = ()) -> None:
    """Check that the files that a VRT names open with the allowed drivers; GDAL itself would try all drivers.

    Raises:
        DataError: One does not, or is on the network.
    """
    own = os.path.realpath(path)
    if own in mosaics:
        raise DataError(f"{path} is a mosaic of itself; build it again with gdalbuildvrt.")
    if not os.path.exists(path):  # a raster within a file
        return
    for source in dict.fromkeys(local_sources(path)):
        check_before_opening(source, any_format=True)
        _check_sources(source, (*mosaics, own))
        DatasetReader(str(source), driver=allowed_drivers(any_format=True), sharing=False).close()
