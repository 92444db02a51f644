"""The ground of a synthetic scene: class, height, colour and SAR backscatter of each canvas pixel."""

from dataclasses import dataclass

import cv2
import numpy as np

from laptop.drawn_world.city import car_colors, draw_city
from laptop.drawn_world.domain import Domain
from laptop.drawn_world.geography import (
    CITY,
    FARMLAND,
    FOREST,
    ROAD,
    WATER,
    Canvas,
    Geography,
    MainRoad,
    draw_geography,
    jittered_sites,
    nearest_site,
)
from laptop.drawn_world.hashing import hash_index
from mm_ovseg.data.fractal_clouds import smoothstep

__all__ = ["Land", "draw_land"]

_TABLE_SIZE = 4096
_TREE_SPACING = 3.7  # pixels
_FIELD_SPACING = 62.0  # pixels between groups of parallel parcels


@dataclass
class Land:
    """The ground, before observation by a sensor.

    Attributes:
        label: (H, W) uint8 class indices.
        color: (H, W, 3) float32, displayed colour in full sun, 0..1.
        height: (H, W) float32, metres of buildings, bridges and trees above the ground.
        backscatter: (H, W) float32 in dB, of the surface only, without walls, shadow and speckle.
        buildings: (H, W) float32, metres of buildings and bridges, which have walls.
        wall_angle: Direction of the city's walls in radians.
    """

    label: np.ndarray
    color: np.ndarray
    height: np.ndarray
    backscatter: np.ndarray
    buildings: np.ndarray
    wall_angle: float


def draw_land(rng: np.random.Generator, canvas: Canvas, domain: Domain) -> Land:
    """Draw the ground from the bottom up: fields, city, forest, water, roads, trees."""
    geography = draw_geography(rng, canvas, domain)
    fields = _draw_fields(rng, canvas, domain)
    city = draw_city(rng, canvas, domain, geography)
    mottle = canvas.noise(rng, 26.0, 5)
    grain = canvas.noise(rng, 3.0, 2)

    label = np.where(geography.region == FOREST, FOREST, FARMLAND).astype(np.uint8)
    land = Land(
        label=label,
        color=fields.color,
        height=np.zeros(canvas.shape, np.float32),
        backscatter=fields.backscatter,
        buildings=city.height,
        wall_angle=geography.streets.angle,
    )
    tree_density = fields.tree_density
    forest = label == FOREST
    land.color[forest] = np.asarray(domain.trees[1], np.float32) * 0.75  # undergrowth
    land.backscatter[forest] = -10.5
    tree_density[forest] = np.clip(1.15 + 0.25 * mottle, 0.35, 1.0)[forest]

    _paint(land, city.mask, CITY, city.color, city.backscatter)
    tree_density[city.mask] = city.tree_density[city.mask]
    land.color *= (1.0 + 0.035 * mottle + 0.030 * grain)[..., None]
    _draw_water(rng, canvas, domain, geography, land, mottle)
    riverside = smoothstep(11.0, 3.0, geography.water_distance) * (mottle > -0.1) * (geography.water_distance > 1.5)
    tree_density = np.maximum(tree_density, 0.6 * riverside * ~city.mask)

    _paint(land, city.streets, ROAD, city.color * (1.0 + 0.04 * grain)[..., None], city.backscatter)
    paved = city.streets
    for road in geography.main_roads:
        paved = paved | _draw_main_road(rng, domain, geography, land, road, grain)

    tree_density[paved | (city.height > 0) | (geography.water_distance < 0.5)] = 0.0
    _draw_trees(rng, canvas, domain, land, tree_density, mottle, overhang=~(paved | (geography.water_distance < 0)))
    land.height = np.maximum(land.height, land.buildings)
    return land


def _paint(land: Land, mask: np.ndarray, label: int, color: np.ndarray, backscatter: np.ndarray) -> None:
    land.label[mask] = label
    land.color[mask] = color[mask]
    land.backscatter[mask] = backscatter[mask]


@dataclass
class _Fields:
    color: np.ndarray
    backscatter: np.ndarray
    tree_density: np.ndarray


def _draw_fields(rng: np.random.Generator, canvas: Canvas, domain: Domain) -> _Fields:
    """Groups of parallel parcels; a parcel has one crop, rows along its length, tramlines and a grassy margin."""
    group = nearest_site(canvas, *jittered_sites(rng, canvas, _FIELD_SPACING))
    count = int(group.max()) + 1
    main = rng.uniform(0, np.pi)  # neighbouring groups are roughly perpendicular
    angle = (main + rng.integers(0, 2, count) * np.pi / 2 + rng.normal(0, 0.16, count)).astype(np.float32)[group]
    x, y = canvas.x, canvas.y
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    width = rng.uniform(*domain.strip_width, count).astype(np.float32)[group]
    length = rng.uniform(*domain.strip_length, count).astype(np.float32)[group]

    strip_place = across / width + 100.0
    strip = np.floor(strip_place).astype(np.int32)
    salt = int(rng.integers(2**31))
    offset = rng.random(_TABLE_SIZE, np.float32)[hash_index(salt, _TABLE_SIZE, group, strip)]
    parcel_place = along / length + offset + 100.0
    parcel = np.floor(parcel_place).astype(np.int32)
    plot = hash_index(salt + 1, _TABLE_SIZE, group, strip, parcel)
    strip_place -= strip
    parcel_place -= parcel
    edge = np.minimum(
        np.minimum(strip_place, 1 - strip_place) * width, np.minimum(parcel_place, 1 - parcel_place) * length
    )

    shares = np.array([crop.share for crop in domain.crops])
    crop = rng.choice(len(shares), _TABLE_SIZE, p=shares / shares.sum())
    colors = np.array([crop.color for crop in domain.crops], np.float32)[crop]
    colors *= (1 + 0.07 * rng.standard_normal((_TABLE_SIZE, 1)) + 0.025 * rng.standard_normal((_TABLE_SIZE, 3))).astype(
        np.float32
    )
    rows = np.array([crop.rows for crop in domain.crops], np.float32)[crop]
    spacing = np.array([crop.row_spacing for crop in domain.crops], np.float32)[crop]
    backscatter = np.array([crop.backscatter for crop in domain.crops], np.float32)[crop]
    backscatter = backscatter + (0.9 * rng.standard_normal(_TABLE_SIZE)).astype(np.float32)

    soil = canvas.noise(rng, 34.0, 4)
    ripple = np.sin(across * (2 * np.pi / spacing)[plot]) * rows[plot]
    tramline = np.abs(np.remainder(across, 11.0) - 5.5)
    tramline = np.exp(-(((tramline - 0.9) / 0.35) ** 2)) * (rows[plot] < 0.09)
    color = colors[plot] * (1 + ripple + 0.05 * soil - 0.10 * tramline)[..., None]
    margin = smoothstep(1.1, 0.4, edge)
    grass = np.asarray(domain.grass, np.float32) * 0.92
    color += (grass - color) * (0.75 * margin)[..., None]

    track = _zone_borders(group, 2)
    color[track] = np.asarray(domain.bank, np.float32) * 0.95
    hedge = (rng.random(_TABLE_SIZE) < 0.10)[plot] & (edge < 1.3)
    tree_density = np.where(hedge, 0.75, 0.003).astype(np.float32)
    tree_density[track] = 0.0
    return _Fields(
        color=color.astype(np.float32),
        backscatter=(backscatter[plot] + 0.7 * soil + 8 * ripple + 1.5 * margin).astype(np.float32),
        tree_density=tree_density,
    )


def _zone_borders(zone: np.ndarray, width: int) -> np.ndarray:
    """Mask of the pixels within about ``width`` / 2 of another zone."""
    kernel = np.ones((width + 1, width + 1), np.uint8)
    zone = zone.astype(np.uint16)
    return cv2.dilate(zone, kernel) != cv2.erode(zone, kernel)


def _draw_water(
    rng: np.random.Generator, canvas: Canvas, domain: Domain, geography: Geography, land: Land, mottle: np.ndarray
) -> None:
    """Water that darkens with depth, and a sandy bank whose width varies; the bank keeps the label of the land."""
    distance = geography.water_distance
    bank = smoothstep(0.3, -0.3, distance - (1.7 + 0.9 * mottle))
    bank *= np.where(land.label == CITY, 0.35, 0.8)
    land.color += (np.asarray(domain.bank, np.float32) - land.color) * bank[..., None]
    land.backscatter += (-15.0 - land.backscatter) * bank
    land.buildings[distance < 1.0] = 0.0

    depth = 1 - np.exp(np.minimum(distance, 0) / 4.0)
    wind = canvas.noise(rng, 48.0, 3)
    waves = canvas.noise(rng, 4.0, 2)
    shallow, deep = np.asarray(domain.shallow_water, np.float32), np.asarray(domain.deep_water, np.float32)
    color = (shallow + (deep - shallow) * depth[..., None]) * (1 + 0.04 * wind + 0.025 * waves)[..., None]
    _paint(land, distance < 0, WATER, color, -24.5 + 1.2 * wind)


def _draw_main_road(
    rng: np.random.Generator, domain: Domain, geography: Geography, land: Land, road: MainRoad, grain: np.ndarray
) -> np.ndarray:
    """Draw one main road with shoulders, lines and, over water, a bridge. Returns the mask of its carriageway."""
    across, half = np.abs(road.across), road.width / 2
    shoulder = smoothstep(half + 1.6, half + 0.6, across) * (geography.water_distance > 0.5)
    dust = np.asarray(domain.bank, np.float32) * 0.9
    land.color += (dust - land.color) * (0.65 * shoulder)[..., None]
    land.buildings[across < half + 1.5] = 0.0

    on_road = across < half
    wear = 1.0 + 0.04 * grain + 0.05 * np.cos(across * (4 * np.pi / road.width))  # lighter wheel tracks
    color = np.asarray(domain.asphalt, np.float32) * wear[..., None]
    dashes = (across < 0.28) & (np.remainder(road.along, 6.0) < 3.0)
    edge_lines = np.abs(across - (half - 0.55)) < 0.22
    color[dashes | edge_lines] = 0.80
    bridge = on_road & (geography.water_distance < 2.5)
    color[bridge] = color[bridge] * 0.6 + 0.28
    parapet = bridge & (across > half - 0.75)
    color[parapet] = 0.82
    backscatter = -19.5 + 0.6 * grain
    backscatter[bridge] = -13.0
    backscatter[parapet] = 0.0
    _paint(land, on_road, ROAD, color, backscatter)
    land.buildings[bridge] = 3.5
    _scatter_cars(rng, land, road.along, road.across, half * 0.45, on_road)
    return on_road


def _scatter_cars(
    rng: np.random.Generator, land: Land, along: np.ndarray, across: np.ndarray, lane: float, where: np.ndarray
) -> None:
    """Cars of 4.5 by 2 m in two lanes, in one of six places."""
    rows, columns = np.nonzero(where)
    along, across = along[rows, columns], across[rows, columns]
    place = np.floor(along / 5.0 + 100).astype(np.int32)
    slot = hash_index(int(rng.integers(2**31)), _TABLE_SIZE, place, (across > 0).astype(np.int32))
    taken = rng.random(_TABLE_SIZE) < 0.16
    paint = car_colors(rng, _TABLE_SIZE)
    middle = np.abs(along + 500 - place * 5.0 - 2.5)
    car = taken[slot] & (middle < 1.1) & (np.abs(np.abs(across) - lane) < 0.5)
    land.color[rows[car], columns[car]] = paint[slot[car]]
    land.backscatter[rows[car], columns[car]] = -9.0


def _draw_trees(
    rng: np.random.Generator,
    canvas: Canvas,
    domain: Domain,
    land: Land,
    density: np.ndarray,
    mottle: np.ndarray,
    overhang: np.ndarray,
) -> None:
    """Crowns as domes around jittered places; each place has a tree with the probability ``density``."""
    x, y = jittered_sites(rng, canvas, _TREE_SPACING)
    here = canvas.to_indices(x, y)
    chance, size_draw, tone = rng.random((3, len(x))).astype(np.float32)
    kept = np.flatnonzero(chance < density[here])
    if len(kept) == 0:
        return
    in_forest = (land.label[here] == FOREST)[kept]
    x, y, size_draw, tone = x[kept].astype(np.float32), y[kept].astype(np.float32), size_draw[kept], tone[kept]
    radius = np.where(in_forest, 1.7 + 1.5 * size_draw, 1.2 + 1.0 * size_draw).astype(np.float32)
    top = np.where(in_forest, 10.0 + 8.0 * size_draw, 5.0 + 5.0 * size_draw).astype(np.float32)
    tree = nearest_site(canvas, x, y)
    distance = np.hypot(canvas.x - x[tree], canvas.y - y[tree]) * (1 + 0.10 * canvas.noise(rng, 2.5, 1))
    dome = 1 - (distance / radius[tree]) ** 2
    crown = (dome > 0) & overhang & (land.buildings <= 0)
    dome = np.sqrt(np.clip(dome, 0, 1))

    broadleaf, conifer = (np.asarray(color, np.float32) for color in domain.trees)
    stand = canvas.noise(rng, 70.0, 2)[canvas.to_indices(x, y)]
    mixture = np.clip(0.5 + 0.45 * stand + 0.7 * (tone - 0.5), 0, 1)[:, None]
    crown_color = (broadleaf * (1 - mixture) + conifer * mixture) * (0.82 + 0.36 * size_draw)[:, None]
    color = crown_color[tree] * (0.72 + 0.34 * dome + 0.03 * mottle)[..., None]
    land.color[crown] = color[crown]
    land.height = np.where(crown, top[tree] * (0.62 + 0.38 * dome), land.height).astype(np.float32)
    land.backscatter[crown] = np.where(land.label[crown] == FOREST, -8.8, -9.8) + 2.2 * (tone[tree][crown] - 0.5)
