"""Terrain correction of Sentinel-1 images: the pixel of each place at its height, by sarsen's zero-Doppler geometry."""

from functools import partial
from types import ModuleType

import numpy as np
from numpy.polynomial import polynomial
from pyproj import Transformer
from rasterio.crs import CRS

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.products.sentinel1.elevation import MAX_HEIGHT, MIN_HEIGHT, Elevation
from mm_ovseg.products.sentinel1.safe_folder import Annotation
from mm_ovseg.raster import Grid
from mm_ovseg.raster.crs import LONGITUDE_LATITUDE, CoordinateTransform
from mm_ovseg.raster.mapped_placement import MappedPlacement

__all__ = ["TerrainPlacement", "ZeroDoppler", "import_sarsen"]

# Chebyshev's points: at any height, a cubic through them is right to a centimetre on the ground.
LEVELS = (MIN_HEIGHT + MAX_HEIGHT) / 2 + (MAX_HEIGHT - MIN_HEIGHT) / 2 * np.cos(np.pi * (np.arange(4) + 0.5) / 4)
ON_ORBIT = 1e-3  # metres
BEYOND = 1000.0  # metres of slant range
FIRST_LINE = np.datetime64("2000-01-01", "ns")  # stands for its time


def import_sarsen() -> ModuleType:
    """The optional sarsen.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import sarsen.geocoding
        import sarsen.orbit
    except ImportError as error:
        raise ConfigError(
            f"Terrain correction (--dem) needs sarsen ({error}); run: pip install 'mm_ovseg[terrain-correction]' with "
            "Python 3.11 or later, or leave --dem out."
        ) from error
    return sarsen


class ZeroDoppler:
    """The pixel of an image that shows a place: where the satellite passed it, and at which distance.

    Args:
        annotation: Annotation of the image.
        crs: Reference system of the map.
        to_earth: Longitudes, latitudes and heights -> geocentric coordinates.

    Raises:
        ConfigError: sarsen is not installed.
    """

    def __init__(self, annotation: Annotation, crs: CRS, to_earth: Transformer) -> None:
        self._sarsen = import_sarsen()
        import xarray

        times, positions = annotation.orbit[:, 0], annotation.orbit[:, 1:]
        coordinates = {"axis": [0, 1, 2], "azimuth_time": FIRST_LINE + _nanoseconds(times)}
        states = xarray.DataArray(positions.T, coordinates, ("axis", "azimuth_time"))
        self._orbit = self._sarsen.orbit.OrbitPolyfitInterpolator.from_position(states)
        self._annotation, self._to_earth = annotation, to_earth
        self._to_degrees = CoordinateTransform(crs, LONGITUDE_LATITUDE)

    def __call__(self, x: np.ndarray, y: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows of places of any shape on the map, at a height; 0.5 is the centre of the first pixel."""
        import xarray

        longitudes, latitudes = self._to_degrees(np.ravel(x), np.ravel(y))
        places = np.stack(self._to_earth.transform(longitudes, latitudes, np.full(np.size(x), height)))
        places[:, ~np.isfinite(places).all(axis=0)] = np.nan
        earth = xarray.DataArray(places, {"axis": [0, 1, 2]}, ("axis", "place"))
        found = self._sarsen.geocoding.backward_geocode(earth, self._orbit, zero_doppler_distance=ON_ORBIT)
        times = (found.azimuth_time.values - FIRST_LINE) / np.timedelta64(1, "s")
        distances = np.sqrt(np.square(found.dem_distance).sum("axis", skipna=False).values)
        columns = self._ground_range(times, distances) / self._annotation.spacing + 0.5
        rows = times / self._annotation.line_interval + 0.5
        return columns.reshape(np.shape(x)), rows.reshape(np.shape(x))

    def _ground_range(self, times: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Distance (N,) on the ground from the first sample."""
        origin, *coefficients = _interpolated(self._annotation.ground_range, times).T
        nearest, farthest = self._annotation.slant_ranges
        within = np.clip(distances, nearest - BEYOND, farthest + BEYOND)
        # Beyond the image, where a polynomial of high degree goes astray, by its first two derivatives.
        derivatives = [coefficients, polynomial.polyder(coefficients), polynomial.polyder(coefficients, 2)]
        ground, slope, bend = (polynomial.polyval(within - origin, terms, tensor=False) for terms in derivatives)
        beyond = distances - within
        return ground + slope * beyond + bend / 2 * beyond**2


class TerrainPlacement(MappedPlacement):
    """Maps the pixels of a grid, at the heights of an elevation model, to positions in an image.

    Args:
        source: Size of the image.
        target: The grid.
        geometry: Gives the image's pixels.
        elevation: The model, on the grid.

    """

    def __init__(self, source: Grid, target: Grid, geometry: ZeroDoppler, elevation: Elevation) -> None:
        super().__init__(source, target, partial(geometry, height=0.0))
        self._levels = [MappedPlacement(source, target, partial(geometry, height=level)) for level in LEVELS]
        self._elevation = elevation
        self._inside = self._known = 0

    def coordinates(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the pixel centres of a window of the grid, NaN where the height is unknown."""
        heights = self._elevation.heights(row, column, height, width).astype(np.float64)
        known = ~np.isnan(heights)
        heights[~known] = 0.0  # to count what is not known
        places = np.zeros((2, height, width))
        for level, placement in zip(LEVELS, self._levels, strict=True):
            others = LEVELS[level != LEVELS]
            share = np.prod([(heights - other) / (level - other) for other in others], axis=0)  # Lagrange's polynomial
            places += share * placement.coordinates(row, column, height, width)
        inside = self.contains(*places)
        self._inside += int(inside.sum())
        self._known += int((inside & known).sum())
        places[:, ~known] = np.nan
        return places[0], places[1]

    def known_share(self) -> float:
        """The share of the image, among the pixels of the grid that were asked for, whose height is known.

        Raises:
            DataError: It is 0.
        """
        if not self._known:
            raise DataError(
                f"{self._elevation.name} has no heights in the image; give an elevation model that covers it."
            )
        return self._known / self._inside


def _interpolated(records: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Values (N, C) at times (N,), linear between records (R, 1 + C), whose first column is time, and beyond them."""
    before = np.clip(np.searchsorted(records[:, 0], times) - 1, 0, len(records) - 2)
    first, second = records[before], records[before + 1]
    share = (times - first[:, 0]) / (second[:, 0] - first[:, 0])
    return first[:, 1:] + share[:, np.newaxis] * (second[:, 1:] - first[:, 1:])


def _nanoseconds(seconds: np.ndarray) -> np.ndarray:
    return np.round(seconds * 1e9).astype("timedelta64[ns]")
