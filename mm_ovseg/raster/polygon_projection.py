"""Polygons of any reference system on the grid of a scene: clipped to it, their edges curved by the projection."""

from collections.abc import Sequence

import numpy as np
import shapely
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.raster.crs import CoordinateTransform, full_turn, to_pyproj
from mm_ovseg.raster.grid import Grid, pixels_to_map

__all__ = ["PolygonProjector", "as_polygons", "gathered", "simple_parts", "valid"]

TOLERANCE = 0.05  # pixels between an edge and the straight line that approximates a piece of it
OUTLINE_POINTS = 256  # per side
LATTICE_POINTS = 33  # per side
MARGIN = 0.01  # relative, around a scene's box in the file's system, for what the outline's points may miss
# Pixels by which projected polygons grow, so that rounding leaves no gaps between neighbours, or where an outline
# meets itself at the antimeridian.
CLOSING = 1e-4
STEPS_PER_TURN = 360
MAX_TURNS = 10  # of the globe, between the longitudes of a file and of the scene; a damaged file may hold any number
MAX_HALVINGS = 14
MAX_POINTS = 5_000_000  # inserted between those of all polygons: a damaged file may hold edges of any length


class PolygonProjector:
    """Projects polygons to the grid of a scene.

    An edge is straight in the polygons' own system, as in GIS and RFC 7946. Longitudes are angles: those of polygons
    and grid match even if they differ by whole turns of the globe.

    Args:
        own: Reference system of the polygons; None if neither they nor the grid have one.
        grid: Grid of the scene. Without a transform, its coordinates are columns and rows.
        name: Name of the polygons' file, for messages.

    Raises:
        DataError: One system cannot be transformed to the other.
    """

    def __init__(self, own: CRS | None, grid: Grid, name: str) -> None:
        corners = grid.outline()
        self._extent = (*corners.min(axis=0), *corners.max(axis=0))
        matrix = np.reshape(tuple(grid.transform or Affine.identity()), (3, 3))[:2, :2]
        self._closing = CLOSING * float(np.abs(matrix).sum(axis=1).min())
        self._to_pixels = np.linalg.inv(matrix)
        self._own_turn, self._grid_turn = full_turn(own), full_turn(grid.crs)
        self._to_grid = CoordinateTransform(own, grid.crs, (name, "the scene"))
        self._own_pole, self._grid_pole = _pole(own), _pole(grid.crs)
        back = CoordinateTransform(grid.crs, own, ("the scene", name))
        # One point in both systems, from which longitudes are counted.
        self._grid_origin = (self._extent[0] + self._extent[2]) / 2
        self._own_origin = float(back(self._grid_origin, (self._extent[1] + self._extent[3]) / 2)[0])
        if not np.isfinite(self._own_origin):
            self._own_origin = self._grid_origin = 0.0
        self._box = self._extent if back.is_identity else self._box_in_own_system(grid, back)

    def boxes(self, extent: Sequence[float]) -> list[tuple[float, float, float, float] | None]:
        """The boxes to search for polygons that may intersect the scene, in a file of a given extent.

        Args:
            extent: (left, bottom, right, top) in the polygons' system.

        Returns:
            Boxes of the same form, the scene's once per turn of the globe; a single None for everywhere.
        """
        if self._box is None:
            return [None]
        left, bottom, right, top = extent
        boxes = self._boxes_between(left, right).values()
        return [box for box in boxes if box[0] <= right and box[2] >= left and box[1] <= top and box[3] >= bottom]

    def project(self, polygons: np.ndarray) -> np.ndarray:
        """Project polygons to the grid.

        Args:
            polygons: (N,) valid Polygons and MultiPolygons.

        Returns:
            (N,) Polygons and MultiPolygons in the grid's system, clipped to its extent; empty if nothing is within it,
            and None if the grid's projection cannot show them.
        """
        if not len(polygons):
            return polygons
        if self._box is not None:
            polygons = self._cut(polygons)
        parts, owners = shapely.get_parts(polygons, return_index=True)
        lost = np.zeros(len(polygons), dtype=bool)
        if not self._to_grid.is_identity and len(parts):
            parts, owners, bad = self._reproject(parts, owners)
            lost[bad] = True
            parts = shapely.buffer(_clip(valid(parts), self._extent), self._closing, join_style="mitre")
        result = gathered(parts, owners, len(polygons))
        result[lost & shapely.is_empty(result)] = None
        return result

    def _boxes_between(self, west: float, east: float) -> dict[float, tuple[float, float, float, float]]:
        """Shift of the scene's box that brings it to longitudes between two -> the shifted box."""
        left, bottom, right, top = self._box
        turns = [0.0] if self._own_turn is None else _turns(left, right, west, east, self._own_turn).tolist()
        return {turn: (left + turn, bottom, right + turn, top) for turn in turns}

    def _cut(self, polygons: np.ndarray) -> np.ndarray:
        """Clip to the scene's box, on the turn of the globe where that box is."""
        west, _, east, _ = shapely.total_bounds(polygons)
        boxes = {} if np.isnan(west) else self._boxes_between(west, east)
        pieces = [_shifted(_clip(polygons, box), -turn) for turn, box in boxes.items()]
        if not pieces:
            return gathered(polygons[:0], np.arange(0), len(polygons))
        return shapely.union_all(pieces, axis=0) if len(pieces) > 1 else pieces[0]

    def _reproject(self, parts: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Polygons, their owners, and the owners of those outside of the grid's projection."""
        bounds = shapely.total_bounds(parts)
        step = max(np.hypot(bounds[2] - bounds[0], bounds[3] - bounds[1]) / LATTICE_POINTS, 1e-9)
        if self._own_turn is not None:
            step = min(step, self._own_turn / STEPS_PER_TURN)
        step = max(step, float(shapely.length(parts).sum()) / MAX_POINTS)
        _, points, (rings, polygons) = shapely.to_ragged_array(shapely.segmentize(parts, step))
        points, rings = self._halved(points[:, :2], rings)
        projected = self._forward(points)
        shown = np.logical_and.reduceat(np.isfinite(projected).all(axis=1), rings[:-1])  # of each ring
        whole = np.logical_and.reduceat(shown, polygons[:-1])
        projected[~np.isfinite(projected)] = 0
        shapes = shapely.from_ragged_array(shapely.GeometryType.POLYGON, projected, (rings, polygons))
        if self._grid_turn is not None and self._own_turn is None:
            shapes = np.array([self._unrolled(shape) for shape in shapes], dtype=object)
        return shapes[whole], owners[whole], np.unique(owners[~whole])

    def _forward(self, points: np.ndarray) -> np.ndarray:
        """Points in the grid's system; not finite where it cannot show them."""
        x, y = self._to_grid(points[:, 0], points[:, 1])
        if self._grid_turn is not None and self._own_turn is not None:
            # PROJ may return a longitude on another turn than the given one.
            turns = (points[:, 0] - self._own_origin) / self._own_turn
            x = x + self._grid_turn * np.rint(turns - (x - self._grid_origin) / self._grid_turn)
        return np.stack([x, y], axis=1)

    def _halved(self, points: np.ndarray, rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points and the offsets of rings among them, with points inserted until edges are straight on the grid."""
        projected = self._forward(points)
        unsettled = np.ones(len(points), dtype=bool)  # the edge from a point to the next
        for _ in range(MAX_HALVINGS):
            unsettled[rings[1:] - 1] = False  # the last point of a ring has no edge
            starts = np.flatnonzero(unsettled)
            if not len(starts) or len(points) > MAX_POINTS:
                break
            between = (points[starts] + points[starts + 1]) / 2
            seen = self._forward(between)
            off = seen - (projected[starts] + projected[starts + 1]) / 2
            if self._grid_turn is not None:
                off[:, 0] -= self._grid_turn / 2 * np.rint(2 * off[:, 0] / self._grid_turn)
            with np.errstate(invalid="ignore"):
                bent = np.hypot(*(off @ self._to_pixels.T).T) > TOLERANCE
            starts, between, seen = starts[bent], between[bent], seen[bent]
            unsettled[:] = False
            unsettled[starts] = True
            points = np.insert(points, starts + 1, between, axis=0)
            projected = np.insert(projected, starts + 1, seen, axis=0)
            unsettled = np.insert(unsettled, starts + 1, True)
            rings = rings + np.searchsorted(starts + 1, rings)
        return points, rings

    def _unrolled(self, polygon: shapely.Polygon) -> shapely.Geometry:
        """A polygon whose rings cross the antimeridian or go around a pole, on the grid's turn of the globe."""
        outer, *holes = (self._ring_on_grid(np.asarray(ring.coords)) for ring in (polygon.exterior, *polygon.interiors))
        return shapely.difference(outer, shapely.union_all(holes)) if holes else outer

    def _ring_on_grid(self, ring: np.ndarray) -> shapely.Geometry:
        turn = self._grid_turn
        x = np.unwrap(ring[:, 0], period=turn)
        around = np.rint((x[-1] - x[0]) / turn)
        ring = np.stack([x, ring[:, 1]], axis=1)
        if around:
            pole = np.copysign(self._grid_pole, ring[:, 1].mean())
            ring = np.concatenate([ring, [(x[-1], pole), (x[0], pole), (x[0], ring[0, 1])]])
        area = shapely.make_valid(shapely.Polygon(ring))
        turns = _turns(x.min(), x.max(), self._extent[0], self._extent[2], turn)
        return shapely.union_all([shapely.clip_by_rect(_shifted(area, moved), *self._extent) for moved in turns])

    def _box_in_own_system(self, grid: Grid, back: CoordinateTransform) -> tuple[float, float, float, float] | None:
        """The grid's bounding box in the polygons' system; None if that cannot represent part of the grid."""
        outline = grid.outline(OUTLINE_POINTS)
        outline = np.concatenate([outline, outline[:1]])
        columns, rows = (np.linspace(0, length, LATTICE_POINTS) for length in (grid.width, grid.height))
        lattice = pixels_to_map(grid.transform, np.stack(np.meshgrid(columns, rows), axis=-1)).reshape(-1, 2)
        given = np.concatenate([outline, lattice])
        x, y = back(given[:, 0], given[:, 1])
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return None
        bottom, top = y.min(), y.max()
        turn = self._own_turn
        if turn is None:
            left, right = x.min(), x.max()
        else:
            if self._grid_turn is not None:
                turns = (given[:, 0] - self._grid_origin) / self._grid_turn
                x = x + turn * np.rint(turns - (x - self._own_origin) / turn)
            around = np.unwrap(x[: len(outline)], period=turn)
            left, right = around.min(), around.max()
            poles = (-self._own_pole, self._own_pole)
            poles = [pole for pole in poles if self._grid_turn is None and self._grid_holds((0, pole))]
            bottom, top = min(bottom, top, *poles), max(bottom, top, *poles)
            if poles or right - left > turn:
                middle = (left + right) / 2
                left, right = middle - turn / 2, middle + turn / 2
        across, up = MARGIN * (right - left), MARGIN * (top - bottom)
        if turn is None:
            return left - across, bottom - up, right + across, top + up
        across = min(across, (turn - right + left) / 2)
        return left - across, max(bottom - up, -self._own_pole), right + across, min(top + up, self._own_pole)

    def _grid_holds(self, point: tuple[float, float]) -> bool:
        x, y = self._to_grid(*point)
        left, bottom, right, top = self._extent
        return left <= x <= right and bottom <= y <= top


def _pole(crs: CRS | None) -> float | None:
    """The latitude of the pole, or a y beyond it on a map whose x depends on longitude alone."""
    turn = full_turn(crs)
    return None if turn is None else turn / 4 if to_pyproj(crs).is_geographic else turn


def simple_parts(geometries: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points, lines and Polygons within geometries and nested collections, and the owner of each."""
    while (shapely.get_type_id(geometries) > shapely.GeometryType.POLYGON).any():
        geometries, index = shapely.get_parts(geometries, return_index=True)
        owners = owners[index]
    return geometries, owners


def as_polygons(geometries: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Polygons within geometries of any kind, and the owner of each."""
    geometries, owners = simple_parts(geometries, owners)
    kept = (shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(geometries)
    return geometries[kept], owners[kept]


def valid(geometries: np.ndarray) -> np.ndarray:
    """Geometries with self-intersections repaired; the results may contain lines and points, too."""
    invalid = ~shapely.is_valid(geometries)
    if invalid.any():
        geometries = geometries.copy()
        geometries[invalid] = shapely.make_valid(geometries[invalid])
    return geometries


def _clip(geometries: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The polygons of valid geometries within a box."""
    left, bottom, right, top = box
    bounds = shapely.bounds(geometries)
    across = ~((bounds[:, :2] >= (left, bottom)).all(axis=1) & (bounds[:, 2:] <= (right, top)).all(axis=1))
    if not across.any():
        return geometries
    result = geometries.copy()
    pieces = shapely.intersection(geometries[across], shapely.box(*box))
    result[across] = gathered(pieces, np.arange(len(pieces)), len(pieces))
    return result


def gathered(geometries: np.ndarray, owners: np.ndarray, count: int) -> np.ndarray:
    """A MultiPolygon, possibly empty, of the polygons among the geometries for each owner 0..count-1."""
    parts, owners = as_polygons(geometries, owners)
    result = np.full(count, shapely.MultiPolygon(), dtype=object)
    if len(parts):
        order = np.argsort(owners, kind="stable")
        shapely.multipolygons(parts[order], indices=owners[order], out=result)
    return result


def _turns(left: float, right: float, west: float, east: float, turn: float) -> np.ndarray:
    """The shifts, by whole turns of the globe, that make left..right meet west..east."""
    first, last = np.ceil((west - right) / turn), np.floor((east - left) / turn)
    return np.arange(max(first, -MAX_TURNS), min(last, MAX_TURNS) + 1) * turn


def _shifted(geometries: np.ndarray, turn: float) -> np.ndarray:
    return shapely.transform(geometries, lambda points: points + (turn, 0))
