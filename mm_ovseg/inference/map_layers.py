"""Layers of a GeoPackage about a map, as emergency mappers expect them: the area of interest and the images."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from mm_ovseg.inference.areas import SQUARE_METRES_PER_HECTARE, Ellipsoid
from mm_ovseg.inference.map_images import acquisition_times
from mm_ovseg.raster import Grid, RasterInfo, read_raster_info
from mm_ovseg.raster.geopackage import VectorLayer
from mm_ovseg.raster.polygon_projection import PolygonProjector
from mm_ovseg.raster.vector import read_polygons

__all__ = ["AREA_LAYER", "FOOTPRINT_LAYER", "area_layer", "footprint_layer"]

AREA_LAYER, FOOTPRINT_LAYER = "area_of_interest", "image_footprints"
PIECES = 64  # of the longest edge, whose area is measured


def area_layer(info: RasterInfo, area: Path | None, layer: str | None) -> VectorLayer:
    """The layer "area_of_interest": the polygons of a vector file, clipped to the map, or else its extent.

    Args:
        info: header of the map.
        area: the vector file; None for the extent.
        layer: its layer; None if it has only one.

    Raises:
        DataError: the file cannot be read.
    """
    grid = info.grid
    if area is None:
        places = np.array([_extent(grid)])
    else:
        places = read_polygons(area, grid, layer=layer, layer_option="--aoi-layer").geometries
    columns = {"name": [area.name if area else "extent of the map"] * len(places), "area_ha": _hectares(info, places)}
    return _layer(AREA_LAYER, grid, columns, places)


def footprint_layer(
    info: RasterInfo, rasters: Mapping[str, Sequence[str | os.PathLike]], images: Mapping[str, Mapping[str, Any]]
) -> VectorLayer:
    """The layer "image_footprints": the extents of the images within the map, with their sensors and dates.

    Args:
        info: header of the map.
        rasters: "rgb" and "sar" -> files.
        images: "rgb" and "sar" -> what is known of them, as in the report.

    Raises:
        DataError: a file cannot be read, or put on the grid of the map.
    """
    grid, rows = info.grid, []
    for kind, files in rasters.items():
        own = read_raster_info(files[0], any_format=True).grid
        place = _extent(grid)
        if None not in (own.transform, grid.transform):
            crs = grid.crs and (own.crs or grid.crs)  # as when the image was read
            [place] = PolygonProjector(crs, grid, str(files[0])).project(np.array([_extent(own)]))
        about, times = images.get(kind, {}), acquisition_times({kind: images.get(kind)})
        rows.append(
            {
                "image": kind.upper(),
                "sensor": about.get("sensor") or None,
                "ids": ", ".join(about.get("ids", ())) or None,
                "acquired_from": _time(times[0] if times else None),
                "acquired_to": _time(times[-1] if times else None),
                "files": ", ".join(Path(path).name for path in files),
                "place": place or shapely.MultiPolygon(),
            }
        )
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "place"}
    columns |= {name: np.array(columns[name], "datetime64[ms]") for name in ("acquired_from", "acquired_to")}
    return _layer(FOOTPRINT_LAYER, grid, columns, np.array([row["place"] for row in rows], dtype=object))


def _layer(name: str, grid: Grid, columns: Mapping[str, Sequence[Any]], places: np.ndarray) -> VectorLayer:
    if grid.transform is None:
        places = shapely.transform(places, lambda points: points * (1, -1))  # where QGIS draws the map
    crs = None if grid.crs is None else grid.crs.to_wkt(version="WKT2_2019")
    places = [place if place.geom_type == "MultiPolygon" else shapely.MultiPolygon([place]) for place in places]
    return VectorLayer(name, [{**columns, "geometry": places}], crs, geometry_type="MultiPolygon")


def _extent(grid: Grid) -> shapely.Polygon:
    return shapely.Polygon(grid.outline())


def _hectares(info: RasterInfo, places: np.ndarray) -> np.ndarray:
    """Hectares (N,) of Polygons and MultiPolygons on the ellipsoid; NaN if unknown."""
    ellipsoid = Ellipsoid.of(info)
    parts, owners = shapely.get_parts(places, return_index=True)
    if ellipsoid is None or not len(parts):
        return np.full(len(places), np.nan)
    left, bottom, right, top = shapely.total_bounds(parts)
    areas = ellipsoid.polygon_areas(shapely.segmentize(parts, max(right - left, top - bottom) / PIECES))
    return np.bincount(owners, areas, minlength=len(places)) / SQUARE_METRES_PER_HECTARE


def _time(time: datetime | None) -> np.datetime64:
    """A time in UTC, as it is written."""
    return np.datetime64("NaT") if time is None else np.datetime64(time.replace(tzinfo=None), "ms")
