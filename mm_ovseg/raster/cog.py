"""Cloud-Optimised GeoTIFFs: overviews, and a layout from which a part can be read in few requests."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError

from mm_ovseg.errors import brief_reason
from mm_ovseg.files import complete_file
from mm_ovseg.raster.attribute_table import table_path
from mm_ovseg.raster.opening import open_raster

__all__ = ["write_cog"]

BLOCK = 512  # pixels along the edge of a tile
CACHE_BYTES = 64 << 20  # rasterio takes GDAL_CACHEMAX in bytes; GDAL itself takes small numbers as megabytes
# The copy has overviews of a third of the source's size, which GDAL first writes to a separate file.
SPACE_PER_SOURCE_BYTE = 2
SPARE_SPACE = 1 << 20  # bytes


def write_cog(source: Path, path: Path, *, categorical: bool, level: int = 6) -> None:
    """Copy a finished GeoTIFF to a Cloud-Optimised GeoTIFF (deflate, 512-pixel tiles, overviews).

    Values, georeference, nodata, colour table, band descriptions and tags are kept; the same source gives the same
    bytes. Needs about 64 MiB of memory plus one tile of all bands.

    Args:
        source: The GeoTIFF, with any number of bands.
        path: The file to write; missing folders are created and an existing file is replaced.
        categorical: Whether values are classes, or belong to them: overviews then take the nearest pixel instead of
            the average.
        level: Compression level, 1 (fast) to 9.

    Raises:
        DataError: The source is missing or not a raster, or the file cannot be written.
    """
    options = {
        "driver": "COG",
        "compress": "DEFLATE",
        "level": level,
        "blocksize": BLOCK,
        "bigtiff": "IF_SAFER",
        "overviews": "IGNORE_EXISTING",
        "overview_resampling": "NEAREST" if categorical else "AVERAGE",
        "num_threads": 1,  # otherwise GDAL_NUM_THREADS of the environment decides
    }
    with (
        open_raster(source) as dataset,
        complete_file(path) as temporary,
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
    ):
        # GDAL's COG driver can crash the whole process if the disk is full from the start.
        needed = SPACE_PER_SOURCE_BYTE * Path(source).stat().st_size + SPARE_SPACE
        if (free := shutil.disk_usage(temporary.parent).free) < needed:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free >> 20} of {needed >> 20} MiB")
        try:
            rasterio.shutil.copy(dataset, temporary, **options)
        except CPLE_BaseError as error:  # rasterio lets these through, although it hides their type
            raise OSError(errno.EIO, brief_reason(error)) from error
        _check_copy(dataset, temporary)
        # Statistics or classes of an earlier raster would be shown for this one.
        table_path(path).unlink(missing_ok=True)


def _check_copy(source: rasterio.DatasetReader, path: Path) -> None:
    """Compare the pixels, since GDAL's COG driver reports no error if the disk fills up while it writes.

    Overviews are only decoded, which fails if the file is truncated or a tile was never written.

    Raises:
        OSError: Something is missing or differs.
    """
    try:
        with rasterio.open(path) as copy:
            levels = len(copy.overviews(1))
            for _, window in copy.block_windows(1):
                if not np.array_equal(source.read(window=window), copy.read(window=window)):
                    raise OSError(errno.EIO, "the copy differs from its source; is the disk full?")
        for level in range(levels):
            with rasterio.open(path, overview_level=level) as overview:
                for _, window in overview.block_windows(1):
                    overview.read(window=window)
    except rasterio.errors.RasterioError as error:
        raise OSError(errno.EIO, f"{brief_reason(error)}; is the disk full?") from error
