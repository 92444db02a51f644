"""Vector files: polygons with one attribute, through fiona."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_geom

from mm_ovseg.errors import ConfigError, DataError, brief_reason

__all__ = ["LabelledPolygon", "import_fiona", "read_polygons", "value_text"]

POLYGONS = ("Polygon", "MultiPolygon")
# Formats that hold their shapes themselves; GDAL's others may name URLs and other files to read instead.
DRIVERS = ["GPKG", "GeoJSON", "GeoJSONSeq", "ESRI Shapefile", "FlatGeobuf", "MapInfo File"]


@dataclass(frozen=True)
class LabelledPolygon:
    """A polygon of a vector file.

    Attributes:
        geometry: as GeoJSON: a Polygon or MultiPolygon.
        value: of its attribute, as :func:`value_text` writes it.
        bounds: left, bottom, right, top.
        area: within its outer rings and without its holes, in squares of the reference system's unit.
    """

    geometry: dict
    value: str
    bounds: tuple[float, float, float, float]
    area: float


def import_fiona() -> ModuleType:
    """Only when needed, since it is an optional requirement.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import fiona
        import fiona._err
    except ImportError as error:
        raise ConfigError(
            f"Vector files are read and written with fiona ({error}); run: pip install 'mm_ovseg[vector]'."
        ) from error
    return fiona


def read_polygons(
    path: str | os.PathLike, attribute: str, *, crs: CRS | None, layer: str | None = None
) -> list[LabelledPolygon]:
    """Read all polygons of a layer, in the order of the file.

    Args:
        path: GeoPackage, GeoJSON, Shapefile, FlatGeobuf or MapInfo file.
        attribute: whose values tell what the polygons show.
        crs: reference system to bring them to; None where neither the file nor the scene has one.
        layer: its name; None where the file has one only.

    Raises:
        ConfigError: fiona is not installed.
        DataError: the file cannot be read, has no such layer, attribute or polygon, or its reference system does not go
            with ``crs``.
    """
    fiona = import_fiona()
    if not os.path.exists(path):
        raise DataError(f"{path} does not exist; check the path.")
    path = os.path.abspath(path)  # fiona takes some relative names for URLs
    try:
        fiona.open(path, enabled_drivers=DRIVERS).close()
        layers = fiona.listlayers(path)
        if layer is None and len(layers) > 1:
            raise DataError(f"{path} has the layers {', '.join(layers)}; say which with --layer.")
        if layer is not None and layer not in layers:
            raise DataError(f"{path} has no layer '{layer}'; its layers are {', '.join(layers)}.")
        with fiona.open(path, layer=layer, enabled_drivers=DRIVERS) as features:
            fields = list(features.schema["properties"])
            if attribute not in fields:
                raise DataError(f"{path} has no attribute '{attribute}'; its attributes are {', '.join(fields)}.")
            own = CRS.from_wkt(features.crs_wkt) if features.crs_wkt else None
            if (own is None) != (crs is None):
                raise DataError(
                    f"{path} {'lacks' if own is None else 'has'} a coordinate reference system and the scene "
                    f"{'has' if own is None else 'lacks'} one; georeference both."
                )
            read = [
                (feature.geometry.__geo_interface__, value_text(feature.properties[attribute]))
                for feature in features
                if feature.geometry is not None and feature.geometry.type in POLYGONS
            ]
        if not read:
            raise DataError(f"{path} has no polygons in this layer; labels are drawn from polygons.")
        geometries = [geometry for geometry, _ in read]
        if own != crs:
            geometries = transform_geom(own, crs, geometries)
    except (
        fiona.errors.FionaError,
        fiona._err.CPLE_BaseError,
        CPLE_BaseError,
        RasterioError,
        OSError,
        ValueError,
    ) as error:
        # ValueError: GDAL takes an attribute of both texts and numbers for JSON, which fiona fails to read.
        raise DataError(
            f"{path} cannot be read as a vector file ({brief_reason(error)}); check it, and that each attribute holds "
            "values of one type."
        ) from error
    return [_labelled(geometry, value) for geometry, (_, value) in zip(geometries, read, strict=True)]


def value_text(value: object) -> str:
    """A value of an attribute or of a label raster as people write it: 3.0 is "3", and no value is ""."""
    if value is None:
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def _labelled(geometry: dict, value: str) -> LabelledPolygon:
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    outer = np.concatenate([_plane(part[0]) for part in parts])
    area = sum(_ring_area(part[0]) - sum(map(_ring_area, part[1:])) for part in parts)
    return LabelledPolygon(geometry, value, (*outer.min(axis=0).tolist(), *outer.max(axis=0).tolist()), area)


def _plane(ring: Sequence[Sequence[float]]) -> np.ndarray:
    """(N, 2); heights are left out."""
    return np.array([point[:2] for point in ring], dtype=float)


def _ring_area(ring: Sequence[Sequence[float]]) -> float:
    points = _plane(ring)
    x, y = (points - points[0]).T  # near the origin, for the sake of rounding
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
