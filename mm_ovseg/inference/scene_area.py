"""The part of a scene to map: polygons of a GeoJSON file on the scene's grid."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import parse_json
from mm_ovseg.raster import Grid

__all__ = ["SceneArea"]

POLYGONS = ("Polygon", "MultiPolygon")


class SceneArea:
    """Polygons of a GeoJSON file (a geometry, a feature or a collection; longitude and latitude, as RFC 7946 says).

    Args:
        path: the file.
        grid: of the scene.

    Raises:
        DataError: the file cannot be read, holds no polygon, or the scene has no place on the ground.
    """

    def __init__(self, path: str | os.PathLike, grid: Grid) -> None:
        if grid.crs is None or grid.transform is None:
            raise DataError(f"{path} gives an area on the ground, but the scene has no georeference; leave it out.")
        try:
            geometries = _polygons(parse_json(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:  # TypeError: a number where there is to be a list
            raise DataError(f"{path} cannot be read as GeoJSON ({error}); check the file.") from error
        if not geometries or not all(map(_is_whole, geometries)):
            raise DataError(f"{path} holds no polygon, or a damaged one; give an area as GeoJSON polygons.")
        try:
            self._geometries = [transform_geom("OGC:CRS84", grid.crs, geometry) for geometry in geometries]
        except (RasterioError, CPLE_BaseError) as error:
            raise DataError(f"{path} cannot be brought to the scene's reference system ({error}).") from error
        self._grid = grid

    def rows(self, start: int, count: int) -> np.ndarray:
        """Bool (count, W): the pixels of some rows of the scene whose middle lies in the area."""
        return rasterize(
            self._geometries,
            out_shape=(count, self._grid.width),
            transform=self._grid.transform @ Affine.translation(0, start),
            dtype="uint8",
        ).astype(bool)


def _polygons(content: Any) -> list[dict]:
    if not isinstance(content, dict):
        return []
    if content.get("type") in POLYGONS:
        return [content]
    inner = [content.get("geometry"), *(content.get("features") or ()), *(content.get("geometries") or ())]
    return [polygon for part in inner for polygon in _polygons(part)]


def _is_whole(geometry: dict) -> bool:
    """Whether a polygon has rings, and each of them points enough; GDAL takes damaged ones for empty, or fails."""
    try:
        coordinates = geometry["coordinates"]
        parts = [coordinates] if geometry["type"] == "Polygon" else coordinates
        rings = [np.array([point[:2] for point in ring], dtype=float) for part in parts for ring in part]
    except (KeyError, IndexError, OverflowError, TypeError, ValueError):
        return False
    return all(parts) and all(ring.shape[1:] == (2,) and len(ring) >= 4 and np.isfinite(ring).all() for ring in rings)
