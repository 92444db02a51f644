"""Where the pixels of a Sentinel-1 image are: its control points, with thin plate splines, and the grid around it."""

import math

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS
from scipy.interpolate import RBFInterpolator
from shapely import Polygon

from mm_ovseg.errors import DataError, brief_reason
from mm_ovseg.products.product import Preparation
from mm_ovseg.products.sentinel1.safe_folder import AGAIN, Annotation
from mm_ovseg.raster import Grid
from mm_ovseg.raster.crs import LONGITUDE_LATITUDE, CoordinateTransform
from mm_ovseg.raster.grid import unit_square
from mm_ovseg.raster.placement import CELL
from mm_ovseg.raster.shared_lattice import AREA_MARGIN
from mm_ovseg.raster.vector import read_polygons

__all__ = ["ControlPoints", "grid_around", "map_system"]

POLAR_LATITUDE = 84  # UTM zones end there
POLAR = {True: 3413, False: 3031}  # EPSG, of the north and of the south
SAME_AREA = 0.8, 1.25  # of a pixel on the map, to that on the ground
OUTLINE_POINTS = 32  # per side


class ControlPoints:
    """The control points of an image: columns and rows on places of a map, interpolated by thin plate splines.

    Args:
        annotation: Annotation of the image.
        name: Its name, for messages.
        crs: The map's reference system.

    Attributes:
        outline: Places (N, 2) around the image on the map.

    Raises:
        DataError: The control points are on one line or outside of the map, or do not fit the size of the pixels.
    """

    def __init__(self, annotation: Annotation, name: str, crs: CRS) -> None:
        # Their columns and rows are those of the pixels' centres.
        self._pixels = annotation.control_points[:, :2] + 0.5
        places = np.stack(CoordinateTransform(LONGITUDE_LATITUDE, crs)(*annotation.control_points[:, 2:].T), axis=1)
        self._name = name
        if not np.isfinite(places).all():
            raise self._unusable("some are outside of the map")
        self._to_pixels = self._spline(places, self._pixels)
        points = unit_square(OUTLINE_POINTS) * annotation.size
        self.outline = np.stack(self._spline(self._pixels, places)(*points.T), axis=1)
        pixel = Polygon(self.outline).area / math.prod(annotation.size)
        if not SAME_AREA[0] < pixel / annotation.spacing**2 < SAME_AREA[1]:
            raise self._unusable("they do not fit the size of its pixels")

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows of places of any shape on the map; 0.5 is the centre of the first pixel."""
        return self._to_pixels(x, y)

    def _spline(self, given: np.ndarray, wanted: np.ndarray):
        middle, extent = given.mean(axis=0), np.ptp(given, axis=0).max()
        try:
            spline = RBFInterpolator((given - middle) / extent, wanted, kernel="thin_plate_spline")
        except (ValueError, np.linalg.LinAlgError) as error:
            raise self._unusable(brief_reason(error)) from error

        def interpolate(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            points = np.stack([np.ravel(first), np.ravel(second)], axis=1)
            found = spline((points - middle) / extent).reshape(*np.shape(first), 2)
            return found[..., 0], found[..., 1]

        return interpolate

    def _unusable(self, reason: str) -> DataError:
        return DataError(f"The control points of {self._name} cannot be used ({reason}); {AGAIN}.")


def map_system(annotation: Annotation) -> CRS:
    """The reference system for the map of an image: the UTM zone of its centre, or a polar system (EPSG:3413, 3031)."""
    longitudes, latitudes = np.radians(annotation.control_points[:, 2:].T)
    # The mean of directions, since longitudes jump at the antimeridian.
    longitude = math.degrees(math.atan2(*(np.mean(np.cos(latitudes) * f(longitudes)) for f in (np.sin, np.cos))))
    latitude = math.degrees(np.mean(latitudes))
    if abs(latitude) > POLAR_LATITUDE:
        return CRS.from_epsg(POLAR[latitude > 0])
    zone = int((longitude + 180) // 6) % 60 + 1
    return CRS.from_epsg((32600 if latitude > 0 else 32700) + zone)


def grid_around(points: ControlPoints, spacing: float, crs: CRS, name: str, preparation: Preparation) -> Grid:
    """The grid of an image on the map, or of the part around the area that is wanted.

    Its first corner is a multiple of the size of a placement's cells, so that neighbouring images share a lattice, and
    a pixel has the same position in the image whatever the area.

    Args:
        points: Control points of the image.
        spacing: Size of its pixels, in metres.
        crs: The map's reference system.
        name: Name of the image, for messages.
        preparation: Says which area is wanted.

    Raises:
        DataError: The area cannot be read, or is outside of the image.
    """
    outline = points.outline
    grid = _grid(outline.min(axis=0), outline.max(axis=0), spacing, crs)
    if preparation.area is None:
        return grid
    polygons = read_polygons(preparation.area, grid, layer=preparation.area_layer, layer_option="--aoi-layer")
    if not len(polygons.geometries):
        raise DataError(f"The area in {preparation.area} is outside of {name}; give an area or a product that fits.")
    bounds = np.array([geometry.bounds for geometry in polygons.geometries])
    margin = AREA_MARGIN * spacing
    low = np.maximum(bounds[:, :2].min(axis=0) - margin, outline.min(axis=0))
    high = np.minimum(bounds[:, 2:].max(axis=0) + margin, outline.max(axis=0))
    return _grid(low, high, spacing, crs)


def _grid(low: np.ndarray, high: np.ndarray, spacing: float, crs: CRS) -> Grid:
    cell = CELL * spacing
    left, top = CELL * np.floor(low[0] / cell), CELL * np.ceil(high[1] / cell)
    right, bottom = np.ceil(high[0] / spacing), np.floor(low[1] / spacing)
    transform = Affine(spacing, 0, left * spacing, 0, -spacing, top * spacing)
    return Grid(int(right - left), int(top - bottom), crs, transform)
