"""The geography of a synthetic scene: regions, river, lake, main roads, street grid.

All lengths are in pixels of the finished scene (:data:`GROUND_SAMPLING_DISTANCE` metres), whose upper left corner is
(0, 0). The canvas is finer by ``SUPERSAMPLING`` and larger by ``MARGIN`` on each side, so that edges are smooth and
shadows enter from outside.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from laptop.drawn_world.domain import Domain
from mm_ovseg.data.fractal_clouds import fractal_noise

__all__ = [
    "CITY",
    "FARMLAND",
    "FOREST",
    "GROUND_SAMPLING_DISTANCE",
    "MARGIN",
    "ROAD",
    "SUPERSAMPLING",
    "SYNTHETIC_CLASSES",
    "SYNTHETIC_UNSEEN_CLASSES",
    "WATER",
    "Canvas",
    "Geography",
    "MainRoad",
    "StreetGrid",
    "draw_geography",
    "jittered_sites",
    "nearest_site",
]

CITY, ROAD, FOREST, WATER, FARMLAND = range(5)
SYNTHETIC_CLASSES = ("city", "road", "forest", "water", "farmland")
SYNTHETIC_UNSEEN_CLASSES = ("road", "water")
GROUND_SAMPLING_DISTANCE = 2.0  # metres per pixel
SUPERSAMPLING = 2
MARGIN = 16
_REGION_SPACING = 74.0  # pixels between the centres of city quarters, woods and groups of fields


class Canvas:
    """The fine pixel grid that a scene is drawn on.

    Attributes:
        size: Side of the finished scene in pixels.
        shape: Height and width of the canvas.
        x, y: (H, W) float32, position of each canvas pixel's centre in scene pixels, right and down.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        side = (size + 2 * MARGIN) * SUPERSAMPLING
        self.shape = (side, side)
        axis = (np.arange(side, dtype=np.float32) + 0.5) / SUPERSAMPLING - MARGIN
        self.x, self.y = np.meshgrid(axis, axis)

    def noise(self, rng: np.random.Generator, wavelength: float, octaves: int = 4) -> np.ndarray:
        """Fractal noise with its wavelength in scene pixels."""
        return fractal_noise(rng, self.shape, wavelength * SUPERSAMPLING, octaves=octaves)

    def rotated(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (along, across) around the scene's centre in axes turned by ``angle`` radians."""
        x, y = self.x - np.float32(self.size / 2), self.y - np.float32(self.size / 2)
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return x * cosine + y * sine, y * cosine - x * sine

    def to_indices(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the canvas pixel at scene positions, moved to the border if outside."""
        last = self.shape[0] - 1
        column = np.clip(((x + MARGIN) * SUPERSAMPLING).astype(np.intp), 0, last)
        row = np.clip(((y + MARGIN) * SUPERSAMPLING).astype(np.intp), 0, last)
        return row, column


@dataclass(frozen=True)
class MainRoad:
    """A road through the scene: its width, and the position of each canvas pixel across (signed) and along it."""

    width: float
    across: np.ndarray
    along: np.ndarray


@dataclass(frozen=True)
class StreetGrid:
    """The city's streets: two families of parallel lines around the scene's centre, turned by ``angle``."""

    angle: float
    lines: tuple[np.ndarray, np.ndarray]
    half_widths: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Geography:
    """The geography of a scene.

    Attributes:
        region: (H, W) uint8, CITY, FOREST or FARMLAND ignoring water and roads.
        water_distance: (H, W) float32, distance to the nearest shore; negative in the water.
        main_roads: The roads that cross the scene, with bridges where they meet water.
        streets: The street grid of the city.
    """

    region: np.ndarray
    water_distance: np.ndarray
    main_roads: tuple[MainRoad, ...]
    streets: StreetGrid


def nearest_site(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Index of the site (points ``x``, ``y`` in scene pixels, on the canvas) nearest to each canvas pixel."""
    rows, columns = canvas.to_indices(x, y)
    image = np.ones(canvas.shape, np.uint8)
    image[rows, columns] = 0
    _, zone = cv2.distanceTransformWithLabels(image, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    site_of_zone = np.zeros(int(zone.max()) + 1, np.intp)
    site_of_zone[zone[rows, columns]] = np.arange(len(rows))
    return site_of_zone[zone]


def jittered_sites(rng: np.random.Generator, canvas: Canvas, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (x, y) all over the canvas, about ``spacing`` apart, without a visible grid."""
    side = canvas.size + 2 * MARGIN
    count = max(2, round(side / spacing))
    jitter = rng.random((2, count, count)) * 0.9 + 0.05
    columns, rows = np.meshgrid(np.arange(count), np.arange(count))
    step = side / count
    return ((columns + jitter[0]) * step - MARGIN).ravel(), ((rows + jitter[1]) * step - MARGIN).ravel()


def draw_geography(rng: np.random.Generator, canvas: Canvas, domain: Domain) -> Geography:
    """Draw the geography.

    Args:
        rng: The scene's source of random values.
        canvas: The pixel grid.
        domain: Gives the spacing of the streets.

    Returns:
        A geography in which city, forest, farmland, a main road and a river or a lake occur.
    """
    size = canvas.size
    flow = rng.uniform(0, 2 * np.pi)  # direction of the river
    heading = flow + np.pi / 2 + rng.uniform(-0.35, 0.35)  # the main road crosses it
    has_river = rng.random() < 0.8
    center = rng.uniform(0.3, 0.7, 2) * size  # of the city

    meander = rng.uniform(0.05, 0.11) * size, rng.uniform(0.8, 1.5) * size, rng.uniform(0, 2 * np.pi)
    river_side = float(rng.choice([-1.0, 1.0]))
    offset = rng.uniform(0.10, 0.26) * size * river_side
    bank_noise = canvas.noise(rng, 18.0, 3)
    along, across = canvas.rotated(flow)
    bend = _bend(along, *meander)
    half_width = size * rng.uniform(0.028, 0.045) * (1 + 0.12 * canvas.noise(rng, 60.0, 2)) + 1.0
    city_across = float(np.dot(center - size / 2, [-np.sin(flow), np.cos(flow)]))
    river_center = offset - river_side * abs(city_across) * 0.3 + bend
    water_distance = np.abs(across - river_center) - half_width + 0.5 * bank_noise
    if not has_river:
        water_distance = np.full(canvas.shape, 1e3, np.float32)

    main_roads = [_main_road(rng, canvas, heading, center, width=rng.uniform(5.6, 7.0))]
    if rng.random() < 0.75:  # a second road, parallel to the river at a distance
        side = across - (river_center - 0.45 * bend) + river_side * rng.uniform(0.20, 0.34) * size
        main_roads.append(MainRoad(rng.uniform(4.0, 5.2), side.astype(np.float32), along))
    if not has_river or rng.random() < 0.45:
        lake_distance = _lake_distance(rng, canvas, water_distance, main_roads) + 0.4 * bank_noise
        water_distance = np.minimum(water_distance, lake_distance)

    return Geography(
        region=_draw_regions(rng, canvas, center),
        water_distance=water_distance.astype(np.float32),
        main_roads=tuple(main_roads),
        streets=_street_grid(rng, canvas, domain, heading),
    )


def _bend(along: np.ndarray, amplitude: float, wavelength: float, phase: float) -> np.ndarray:
    """Offset of a meandering line: two waves with incommensurable lengths."""
    turn = along * np.float32(2 * np.pi / wavelength) + np.float32(phase)
    return np.float32(amplitude) * (np.sin(turn) + 0.35 * np.sin(2.3 * turn + 1.7))


def _main_road(rng: np.random.Generator, canvas: Canvas, heading: float, center: np.ndarray, width: float) -> MainRoad:
    along, across = canvas.rotated(heading)
    through = np.dot(center - canvas.size / 2, [-np.sin(heading), np.cos(heading)])
    amplitude, wavelength = rng.uniform(0.01, 0.035) * canvas.size, rng.uniform(1.2, 2.0) * canvas.size
    bend = _bend(along, amplitude, wavelength, rng.uniform(0, 2 * np.pi))
    return MainRoad(width, across - np.float32(through) - bend, along)


def _lake_distance(
    rng: np.random.Generator, canvas: Canvas, water_distance: np.ndarray, main_roads: list[MainRoad]
) -> np.ndarray:
    """Distance to the shore of one lake, placed away from the river and the main roads."""
    size = canvas.size
    clearance = np.minimum.reduce([np.clip(water_distance, 0, None), *(np.abs(road.across) for road in main_roads)])
    x, y = rng.uniform(0.1, 0.9, (2, 24)) * size
    best = np.argmax(clearance[canvas.to_indices(x, y)])
    radius = rng.uniform(0.07, 0.11) * size
    dx, dy = canvas.x - np.float32(x[best]), canvas.y - np.float32(y[best])
    angle = np.arctan2(dy, dx)
    shape = np.ones(canvas.shape, np.float32)
    for waves, amplitude in ((1, 0.10), (2, 0.26), (3, 0.12), (5, 0.05)):
        shape += np.float32(amplitude) * np.sin(waves * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.hypot(dx, dy) - np.float32(radius) * shape


def _draw_regions(rng: np.random.Generator, canvas: Canvas, center: np.ndarray) -> np.ndarray:
    """Region map: sites near the centre are city, sites near a distant point forest, the rest farmland."""
    size = canvas.size
    x, y = jittered_sites(rng, canvas, _REGION_SPACING)
    away = rng.uniform(0, 2 * np.pi)
    forest_center = center + size * 0.62 * np.array([np.cos(away), np.sin(away)])
    if not (0 < forest_center[0] < size and 0 < forest_center[1] < size):
        forest_center = size - center + 0.25 * size * np.sign(size / 2 - center)
    inside = (x > 0) & (x < size) & (y > 0) & (y < size)
    share = len(x) * np.array([rng.uniform(0.22, 0.30), rng.uniform(0.18, 0.28)])
    city_count, forest_count = np.maximum(1, np.round(share)).astype(int)
    to_city = np.hypot(x - center[0], y - center[1]) + 1e4 * ~inside * (inside.sum() > 1)
    to_forest = np.hypot(x - forest_center[0], y - forest_center[1])
    kind = np.full(len(x), FARMLAND, np.uint8)
    kind[np.argsort(to_city)[:city_count]] = CITY
    to_forest[kind == CITY] = np.inf
    kind[np.argsort(to_forest)[:forest_count]] = FOREST
    region = kind[nearest_site(canvas, x, y)]
    # Natural borders: look up the region at a position displaced by noise.
    sway = [canvas.noise(rng, 40.0, 4) * (4.5 * SUPERSAMPLING) for _ in range(2)]
    columns, rows = np.meshgrid(*[np.arange(side, dtype=np.float32) for side in canvas.shape[::-1]])
    return cv2.remap(region, columns + sway[0], rows + sway[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _street_grid(rng: np.random.Generator, canvas: Canvas, domain: Domain, heading: float) -> StreetGrid:
    """Streets along and across the main road, at irregular distances, with every third one wider."""
    reach = 0.75 * (canvas.size + 2 * MARGIN)
    lines, half_widths = [], []
    for low, high in domain.street_spacing:
        steps = rng.uniform(low, high, int(2 * reach / low) + 3)
        lines.append((np.cumsum(steps) - reach - steps[0] - rng.uniform(0, low)).astype(np.float32))
        wide = (np.arange(len(steps)) + rng.integers(3)) % 3 == 0
        half_widths.append(np.where(wide, 2.3, 1.5).astype(np.float32))
    return StreetGrid(heading, (lines[0], lines[1]), (half_widths[0], half_widths[1]))
