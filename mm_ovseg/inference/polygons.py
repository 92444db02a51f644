"""A class map's patches as polygons in a GeoPackage, for geographic information systems."""

import errno
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
from rasterio._err import CPLE_BaseError

from mm_ovseg.data.vector_file import import_fiona
from mm_ovseg.errors import DataError, brief_reason
from mm_ovseg.files import complete_file
from mm_ovseg.inference.areas import PIECES_PER_EDGE, SQUARE_METRES_PER_HECTARE, Ellipsoid, block_edge, measure_areas
from mm_ovseg.inference.map_writer import NODATA_CLASS
from mm_ovseg.raster import RasterInfo, open_raster, read_raster_info

__all__ = ["write_polygons"]

SCHEMA = {"geometry": "Polygon", "properties": {"class_index": "int", "class_name": "str", "area_ha": "float"}}
SPARE_SPACE = 1 << 20  # bytes
# A file that is thrown away on failure needs no journal on the disk, nor to wait for it.
SQLITE_OPTIONS = {"OGR_SQLITE_JOURNAL": "MEMORY", "OGR_SQLITE_SYNCHRONOUS": "OFF"}


def write_polygons(map_path: str | os.PathLike, path: str | os.PathLike, class_names: Sequence[str]) -> int:
    """Outline the patches of a finished class map: pixels of one class that touch along their edges.

    The map is read as a stream, but all outlines are in memory at once before they are written.

    Args:
        map_path: uint8 raster of class indices 0..T-1, or 255 for nodata, which gets no polygon.
        path: the GeoPackage to write; missing folders are made, an existing file is replaced. Its one layer is named
            after it, and has the fields class_index, class_name and area_ha: hectares on the ellipsoid, null where
            the map does not say where on Earth it lies. Of a map without georeference, coordinates are (column, -row),
            which is where QGIS draws it.
        class_names: T names, T <= 255.

    Returns:
        The number of polygons.

    Raises:
        ConfigError: fiona is not installed.
        DataError: the map is missing, damaged, no uint8 raster, or holds an index without a class; or the file cannot
            be written.
    """
    fiona = import_fiona()
    path = Path(path)
    measure_areas(map_path, class_names)  # for its errors: of a damaged map, GDAL silently outlines nothing
    info = read_raster_info(map_path)
    crs = {"crs_wkt": info.crs.to_wkt(version="WKT2_2019")} if info.crs else {}
    with complete_file(path) as temporary:
        try:
            with (
                fiona.Env(**SQLITE_OPTIONS),
                fiona.open(temporary, "w", driver="GPKG", layer=path.stem, schema=SCHEMA, **crs) as layer,
            ):
                layer.writerecords(_features(info, class_names))
                count = len(layer)
        except (fiona.errors.FionaError, fiona._err.CPLE_BaseError, RuntimeError) as error:
            if shutil.disk_usage(temporary.parent).free < SPARE_SPACE:  # SQLite's sentences do not say so
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise OSError(errno.EIO, brief_reason(error)) from error
        finally:
            for leftover in ("-journal", "-wal", "-shm"):
                with suppress(OSError):
                    Path(f"{temporary}{leftover}").unlink()
    return count


def _features(info: RasterInfo, class_names: Sequence[str]) -> Iterator[dict]:
    """The polygons as GeoJSON features."""
    ellipsoid = Ellipsoid.of(info)
    longest = 0.0
    if ellipsoid is not None:
        pixel = max(math.hypot(*column) for column in np.reshape(tuple(info.transform), (3, 3)).T[:2])
        longest = pixel * block_edge(info, ellipsoid) / PIECES_PER_EDGE
    for index, rings in _outlines(info.path):
        hectares = None
        if ellipsoid is not None:
            outer, *holes = (float(ellipsoid.areas(_with_points_between(ring, longest))) for ring in rings)
            hectares = (outer - sum(holes)) / SQUARE_METRES_PER_HECTARE
        if info.transform is None:
            rings = [ring * (1, -1) for ring in rings]
        yield {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring.tolist() for ring in rings]},
            "properties": {
                "class_index": index,
                "class_name": class_names[index],
                "area_ha": None if hectares is None or math.isnan(hectares) else hectares,
            },
        }


def _outlines(map_path: Path) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Of every patch, its class and its rings, the outer one first: (points, 2) map coordinates, the last the first."""
    with open_raster(map_path) as dataset:
        try:
            # Of a band, as opposed to an array, GDAL gives map coordinates whatever transform it is called with.
            for geometry, index in rasterio.features.shapes(rasterio.band(dataset, 1), connectivity=4):
                if index != NODATA_CLASS:
                    yield int(index), [np.array(ring) for ring in geometry["coordinates"]]
        except CPLE_BaseError as error:
            raise DataError(f"{map_path} cannot be read ({brief_reason(error)}); it is damaged: replace it.") from error


def _with_points_between(ring: np.ndarray, longest: float) -> np.ndarray:
    """The corners of a closed ring, the last one left out, and as many points between as keep edges short."""
    edges = np.diff(ring, axis=0)
    pieces = np.ceil(np.hypot(*edges.T) / longest).astype(int)
    if pieces.max() == 1:
        return ring[:-1]
    edge_of_point = np.repeat(np.arange(len(edges)), pieces)
    along = (np.arange(len(edge_of_point)) - (np.cumsum(pieces) - pieces)[edge_of_point]) / pieces[edge_of_point]
    return ring[edge_of_point] + edges[edge_of_point] * along[:, np.newaxis]
