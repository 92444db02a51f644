"""The ground that rasters cover, comparable across coordinate reference systems.

All footprints of one call are in one plane, an equal-area projection centred on them, so that different UTM zones,
spellings of a CRS, longitudes that differ by 360 degrees, the antimeridian and the poles need no special rules.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from pyproj import Proj
from shapely import Polygon, STRtree

from mm_ovseg.errors import DataError
from mm_ovseg.raster.crs import LONGITUDE_LATITUDE, CoordinateTransform
from mm_ovseg.raster.grid import Grid, unit_square

__all__ = ["EARTH", "Footprint", "common_pixel_size", "footprints", "overlap_shares", "overlaps"]

EARTH = "Earth"
UNNAMED = ""  # the plane of rasters with a world file but no CRS
# Per side, since what is straight in one projection is curved in another.
SEGMENTS, SEGMENTS_OF_LARGE = 8, 128
LARGE_DEGREES, LARGE_METRES = 2, 200_000
MARGIN = 0.5  # pixels by which a neighbour may overlap a raster, because of rounding
PIXEL_TOLERANCE = 0.05  # relative; pixels of one size on a map differ by less on the ground, within a region
# Added to the mean direction, so that the antipode, which the plane cannot show, is on no whole degree.
ASIDE = np.array([1e-4, 2e-4, 3e-4])
# Candidate centres of the plane if the places are all around the globe: about every 20 degrees.
SPIRAL = (np.arange(100) + 0.5) * np.array([[1 / 50], [np.pi * (3 - 5**0.5)]])
GLOBE = shapely.Point(0, 0).buffer(2 * 6_371_007.2, quad_segs=90)  # the whole Earth in the plane


@dataclass(frozen=True, eq=False)
class Footprint:
    """The ground that a raster covers. Comparable only in one plane, within one call of :func:`footprints`.

    Attributes:
        plane: ``EARTH``, with coordinates in metres; or the name of another plane, for rasters that are not related
            to the Earth: the WKT of a local (engineering) system, or "" for those with a world file only.
        outline: Polygon in the plane. For ``EARTH`` its area is the true one, in square metres.
        core: The outline shrunk by half a pixel, which a neighbour that shares an edge does not overlap.
        centre: Longitude and latitude of the middle in degrees (WGS 84); in other planes x and y.
        pixel: Side of a square as large as its mean pixel, in metres for ``EARTH``, else in units of the plane.
    """

    plane: str
    outline: Polygon
    core: Polygon
    centre: tuple[float, float]
    pixel: float


def footprints(grids: Sequence[Grid | None]) -> list[Footprint | None]:
    """The footprints of rasters, in one plane as far as they are on the Earth.

    Heights are ignored: of a compound reference system only the horizontal part counts.

    Args:
        grids: The rasters.

    Returns:
        One per grid; None for a file that is not a raster, has no invertible geotransform, or whose coordinates are
        not on the Earth.
    """
    found: list[Footprint | None] = [None] * len(grids)
    batches = defaultdict(list)
    for index, grid in enumerate(grids):
        if grid is not None and grid.transform is not None and grid.transform.determinant != 0:
            batches[grid.crs, _segments(grid)].append(index)
    on_earth = []
    for (crs, segments), indices in batches.items():
        x, y = _points([grids[index] for index in indices], segments)
        try:
            on_earth.append((indices, *CoordinateTransform(crs, LONGITUDE_LATITUDE)(x, y)))
        except DataError:
            plane = UNNAMED if crs is None else crs.to_wkt(version="WKT2_2019")
            _fill(found, grids, indices, plane, (x, y), centres=np.stack([x[:, -1], y[:, -1]], axis=1))
    if on_earth:
        centres = [np.stack([longitudes[:, -1], latitudes[:, -1]], axis=1) for _, longitudes, latitudes in on_earth]
        longitude, latitude = _middle(np.concatenate(centres))
        plane = Proj(proj="laea", lon_0=longitude, lat_0=latitude, ellps="WGS84")
        for (indices, longitudes, latitudes), of_batch in zip(on_earth, centres, strict=True):
            _fill(found, grids, indices, EARTH, plane(longitudes, latitudes), centres=of_batch)
    return found


def overlaps(first: Sequence[Footprint | None], second: Sequence[Footprint | None]) -> np.ndarray:
    """The pairs of footprints of two lists that overlap by more than half a pixel of the finer one.

    Args:
        first, second: From one call of :func:`footprints`.

    Returns:
        int (K, 2): index in the first list and in the second, sorted.
    """
    pairs = [np.empty((0, 2), dtype=int)]
    for plane in {place.plane for place in first if place is not None}:
        ours, theirs = (
            np.array([index for index, place in enumerate(places) if place is not None and place.plane == plane], int)
            for places in (first, second)
        )
        # Both ways: near a pole, half a pixel of one may be larger than the whole of the other.
        for our_part, their_part in (("core", "outline"), ("outline", "core")):
            tree = STRtree([getattr(second[index], their_part) for index in theirs])
            here, there = tree.query([getattr(first[index], our_part) for index in ours], predicate="intersects")
            pairs.append(np.stack([ours[here], theirs[there]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def overlap_shares(
    first: Sequence[Footprint | None], second: Sequence[Footprint | None], pairs: np.ndarray
) -> np.ndarray:
    """The area that two footprints share, as a fraction of the smaller one.

    Args:
        first, second: From one call of :func:`footprints`.
        pairs: int (K, 2), from :func:`overlaps`.

    Returns:
        float (K,), 0..1.
    """
    ours, theirs = (
        np.array([places[index].outline for index in column], dtype=object)
        for places, column in zip((first, second), pairs.T, strict=True)
    )
    return shapely.area(shapely.intersection(ours, theirs)) / np.minimum(shapely.area(ours), shapely.area(theirs))


def common_pixel_size(places: Sequence[Footprint | None]) -> float | None:
    """Metres per pixel, to three digits; None if a footprint is unknown or the sizes differ by more than 5%."""
    if not places or any(place is None or place.plane != EARTH for place in places):
        return None
    sizes = [place.pixel for place in places]
    return float(f"{np.mean(sizes):.3g}") if max(sizes) <= min(sizes) * (1 + PIXEL_TOLERANCE) else None


def _segments(grid: Grid) -> int:
    a, b, _, d, e, _ = tuple(grid.transform)[:6]
    side = max(grid.width * np.hypot(a, d), grid.height * np.hypot(b, e))
    limit = LARGE_DEGREES if grid.crs and grid.crs.is_geographic else LARGE_METRES
    return SEGMENTS if side < limit else SEGMENTS_OF_LARGE


def _points(grids: Sequence[Grid], segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates, (N, 8 * segments + 1) each, of the outline, the core and the middle of each grid."""
    ring = unit_square(segments).T
    lengths = np.array([[grid.width, grid.height] for grid in grids], dtype=float).T[..., np.newaxis]  # (2, N, 1)
    margins = np.minimum(MARGIN, lengths / 4)
    core = margins + ring[:, np.newaxis] * (lengths - 2 * margins)
    columns, rows = np.concatenate([ring[:, np.newaxis] * lengths, core, lengths / 2], axis=2)
    a, b, c, d, e, f = np.array([tuple(grid.transform)[:6] for grid in grids]).T[..., np.newaxis]
    return a * columns + b * rows + c, d * columns + e * rows + f


def _middle(centres: np.ndarray) -> tuple[float, float]:
    """Longitude and latitude for the plane's centre: amid the places (N, 2), with none near its antipode."""
    longitudes, latitudes = np.radians(centres[np.isfinite(centres).all(axis=1)]).T
    places = np.stack(
        [np.cos(latitudes) * np.cos(longitudes), np.cos(latitudes) * np.sin(longitudes), np.sin(latitudes)], axis=1
    )
    middle = places.sum(axis=0) / max(len(places), 1) + ASIDE
    middle = middle / np.linalg.norm(middle)
    if (places @ middle).min(initial=1) < -0.5:  # more than 120 degrees away
        height, angle = SPIRAL[0] - 1, SPIRAL[1]
        radius = np.sqrt(1 - height**2)
        candidates = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
        middle = candidates[(places @ candidates.T).min(axis=0).argmax()]
    return float(np.degrees(np.arctan2(middle[1], middle[0]))), float(np.degrees(np.arcsin(np.clip(middle[2], -1, 1))))


def _fill(
    found: list[Footprint | None],
    grids: Sequence[Grid | None],
    indices: Sequence[int],
    plane: str,
    points: tuple[np.ndarray, np.ndarray],
    centres: np.ndarray,
) -> None:
    """Store the footprints of the points from :func:`_points`, in coordinates of a plane, at their indices."""
    x, y = points
    good = np.flatnonzero((np.isfinite(x) & np.isfinite(y)).all(axis=1) & np.isfinite(centres).all(axis=1))
    rings = np.stack([x[good, :-1], y[good, :-1]], axis=-1).reshape(len(good), 2, x.shape[1] // 2, 2)
    polygons = shapely.polygons(rings)
    wrong = ~shapely.is_valid(polygons)  # around a whole parallel, both ends touch
    polygons[wrong] = shapely.buffer(polygons[wrong], 0)
    inside_out = ~shapely.contains_xy(polygons, x[good, -1:], y[good, -1:])  # around the antipode of the plane's centre
    polygons[inside_out] = shapely.difference(GLOBE, polygons[inside_out])
    areas = shapely.area(polygons[:, 0])
    for (outline, core), area, row in zip(polygons, areas.tolist(), good.tolist(), strict=True):
        grid = grids[indices[row]]
        pixel = (area / (grid.width * grid.height)) ** 0.5
        found[indices[row]] = Footprint(plane, outline, core, tuple(centres[row].tolist()), pixel)
