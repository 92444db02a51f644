"""Writing GeoPackages, the only vector files that are written."""

import errno
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import pyogrio

from mm_ovseg.errors import brief_reason
from mm_ovseg.files import complete_file
from mm_ovseg.raster.vector_drivers import gdal_options

__all__ = ["VectorLayer", "write_geopackage"]

SPARE_SPACE = 1 << 20  # bytes
# A file that is deleted on failure needs no journal on disk and no syncing.
WRITING_OPTIONS = {"OGR_SQLITE_JOURNAL": "MEMORY", "OGR_SQLITE_SYNCHRONOUS": "OFF"}


@dataclass(frozen=True, eq=False)
class VectorLayer:
    """A layer to write.

    Attributes:
        name: Its name.
        chunks: At least one dict of columns of equal length, among them ``geometry`` with shapely geometries; may be
            empty. All have the same columns; one chunk is in memory at a time.
        crs: Reference system as WKT, or None.
        geometry_type: "Polygon", "MultiPolygon" or "Point", that of all geometries.
    """

    name: str
    chunks: Iterable[Mapping[str, Sequence[Any]]]
    crs: str | None
    geometry_type: str = "Polygon"


def write_geopackage(path: str | os.PathLike, layers: Sequence[VectorLayer]) -> list[int]:
    """Write a GeoPackage atomically.

    Args:
        path: The file; missing folders are created and an existing file is replaced.
        layers: Its layers, with distinct names.

    Returns:
        The number of geometries of each.

    Raises:
        DataError: It cannot be written. Errors of the chunks pass through.
    """
    with complete_file(path) as temporary:
        written = temporary.with_name(temporary.name.replace(";", "_"))  # pyogrio would split the path there
        try:
            counts = [_write_layer(written, layer) for layer in layers]
            os.replace(written, temporary)
            return counts
        except OSError as error:
            if shutil.disk_usage(temporary.parent).free < SPARE_SPACE:  # SQLite's messages do not say so
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        finally:
            leftovers = {written} - {temporary} | {Path(f"{written}{end}") for end in ("-journal", "-wal", "-shm")}
            for leftover in leftovers:
                with suppress(OSError):
                    leftover.unlink()


def _write_layer(path: Path, layer: VectorLayer) -> int:
    count = 0
    options = {"layer": layer.name, "driver": "GPKG", "geometry_type": layer.geometry_type}
    with gdal_options(WRITING_OPTIONS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        for index, chunk in enumerate(layer.chunks):
            frame = geopandas.GeoDataFrame(chunk, crs=layer.crs)
            try:
                pyogrio.write_dataframe(frame, path, append=index > 0, **options)
            except (RuntimeError, ValueError) as error:  # all errors of pyogrio are RuntimeErrors
                raise OSError(brief_reason(error)) from error
            count += len(frame)
    return count
