"""The city of a synthetic scene: blocks between the streets, building plots in the blocks, roofs on the plots."""

from dataclasses import dataclass

import cv2
import numpy as np

from laptop.drawn_world.domain import Domain
from laptop.drawn_world.geography import CITY, SUPERSAMPLING, Canvas, Geography
from laptop.drawn_world.hashing import hash_index

__all__ = ["City", "car_colors", "draw_city"]

_TABLE_SIZE = 4096
_SIDEWALK = 0.9  # pixels
_COURTYARD_WING = 5.6  # pixels, depth of buildings along the edge of a block
_WING_GAP = 0.35


@dataclass
class City:
    """The city's part of the ground.

    Attributes:
        mask: (H, W) bool, the blocks.
        streets: (H, W) bool, the streets between and around them.
        color: (H, W, 3) float32; backscatter: (H, W) float32 in dB; tree_density: (H, W) float32, 0..1.
        height: (H, W) float32, metres of the buildings, 0 beside them.
    """

    mask: np.ndarray
    streets: np.ndarray
    color: np.ndarray
    backscatter: np.ndarray
    tree_density: np.ndarray
    height: np.ndarray


@dataclass
class _Axis:
    """Position along one direction of the street grid."""

    index: np.ndarray  # of the block
    inside: np.ndarray  # pixels from the block's lower side, beyond street and sidewalk
    width: np.ndarray  # of the block
    street: np.ndarray  # pixels to the edge of the nearest street, negative on it


def draw_city(rng: np.random.Generator, canvas: Canvas, domain: Domain, geography: Geography) -> City:
    """Fill every block of the street grid whose centre lies in the city's region and not in water."""
    grid = geography.streets
    along, across = canvas.rotated(grid.angle)
    u, v = (
        _block_axis(place, lines, half_widths)
        for place, lines, half_widths in zip((along, across), grid.lines, grid.half_widths, strict=True)
    )
    city_block = _blocks_in_city(canvas, geography)[u.index, v.index]
    to_street = np.minimum(u.street, v.street)
    streets = _streets_around(city_block, to_street) & (geography.water_distance > 1.5)

    salt = int(rng.integers(2**31))
    block = hash_index(salt, _TABLE_SIZE, u.index, v.index)
    shares = np.array([style.share for style in domain.blocks])
    style = rng.choice(len(shares), _TABLE_SIZE, p=shares / shares.sum())[block]

    city = City(
        mask=city_block & (to_street > 0),
        streets=streets,
        color=np.array([style.ground for style in domain.blocks], np.float32)[style],
        backscatter=np.full(canvas.shape, -13.0, np.float32),
        tree_density=np.array([style.trees for style in domain.blocks], np.float32)[style],
        height=np.zeros(canvas.shape, np.float32),
    )
    city.color[to_street < _SIDEWALK] = np.asarray(domain.street, np.float32) * 1.12
    city.color[streets] = np.asarray(domain.street, np.float32)
    city.backscatter[streets] = -18.0
    _draw_cars_along_streets(rng, u, v, city)
    _draw_parking(rng, domain, style, u, v, city)
    _draw_buildings(rng, canvas, domain, geography, style, block, u, v, city)
    return city


def _block_axis(place: np.ndarray, lines: np.ndarray, half_widths: np.ndarray) -> _Axis:
    index = np.searchsorted(lines, place).astype(np.int32) - 1
    lower = place - lines[index] - half_widths[index]
    upper = lines[index + 1] - half_widths[index + 1] - place
    return _Axis(index, lower - _SIDEWALK, lower + upper - 2 * _SIDEWALK, np.minimum(lower, upper))


def _blocks_in_city(canvas: Canvas, geography: Geography) -> np.ndarray:
    """(blocks along, blocks across) bool."""
    centers = [(lines[1:] + lines[:-1]) / 2 for lines in geography.streets.lines]
    here = canvas.to_indices(*_to_scene(canvas, geography, *np.meshgrid(*centers, indexing="ij")))
    return (geography.region[here] == CITY) & (geography.water_distance[here] > 2)


def _to_scene(
    canvas: Canvas, geography: Geography, along: np.ndarray, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scene position (x, y) of a place in the street grid."""
    cosine, sine = np.float32(np.cos(geography.streets.angle)), np.float32(np.sin(geography.streets.angle))
    return along * cosine - across * sine + canvas.size / 2, along * sine + across * cosine + canvas.size / 2


def _streets_around(city_block: np.ndarray, to_street: np.ndarray) -> np.ndarray:
    reach = 2 * (5 * SUPERSAMPLING) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    built = cv2.dilate((city_block & (to_street > 0)).astype(np.uint8), kernel)
    return (built > 0) & (to_street <= 0)


def _draw_cars_along_streets(rng: np.random.Generator, u: _Axis, v: _Axis, city: City) -> None:
    """Cars of 4.5 by 2 m at the edges of the streets."""
    for along, side in ((u, v), (v, u)):
        lane = city.streets & (along.street > 0) & (np.abs(side.street + 0.65) < 0.5)
        rows, columns = np.nonzero(lane)
        place = along.inside[rows, columns] / 2.9
        space = np.floor(place).astype(np.int32)
        position = along.index[rows, columns], side.index[rows, columns]
        slot = hash_index(int(rng.integers(2**31)), _TABLE_SIZE, space, *position)
        car = (rng.random(_TABLE_SIZE) < 0.35)[slot] & (np.abs(place - space - 0.5) * 2.9 < 1.1)
        _paint_cars(rng, city, rows[car], columns[car], slot[car])


def _paint_cars(rng: np.random.Generator, city: City, rows: np.ndarray, columns: np.ndarray, slot: np.ndarray) -> None:
    city.color[rows, columns] = car_colors(rng, _TABLE_SIZE)[slot]
    city.backscatter[rows, columns] = -9.0


def car_colors(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3) float32: white, silver, grey and black cars, some red ones."""
    colors = rng.choice(np.array([0.88, 0.80, 0.62, 0.45, 0.30, 0.22], np.float32), (count, 1)) * np.ones(3, np.float32)
    colors[::9] = (0.62, 0.22, 0.20)
    return colors


def _draw_parking(rng: np.random.Generator, domain: Domain, style: np.ndarray, u: _Axis, v: _Axis, city: City) -> None:
    """Rows of parked cars around the large halls."""
    halls = np.argmax([style.plot[0] * style.plot[1] for style in domain.blocks])
    rows, columns = np.nonzero((style == halls) & city.mask)
    along, across = u.inside[rows, columns], v.inside[rows, columns]
    place, row = np.floor(along / 1.6).astype(np.int32), np.floor(across / 4.2).astype(np.int32)
    slot = hash_index(int(rng.integers(2**31)), _TABLE_SIZE, place, row)
    taken = (rng.random(_TABLE_SIZE) < 0.42)[slot]
    car = taken & (np.abs(along - (place + 0.5) * 1.6) < 0.55) & (np.abs(across - (row + 0.5) * 4.2) < 1.1)
    _paint_cars(rng, city, rows[car], columns[car], slot[car])


def _draw_buildings(
    rng: np.random.Generator,
    canvas: Canvas,
    domain: Domain,
    geography: Geography,
    style: np.ndarray,
    block: np.ndarray,
    u: _Axis,
    v: _Axis,
    city: City,
) -> None:
    """One building per plot: a rectangle or an L with a flat or a pitched roof, or a wing along the block's edge."""
    styles = domain.blocks

    def of_style(values: list) -> np.ndarray:
        return np.array(values, np.float32)[style]

    # Plots divide a block evenly; (place_u, place_v) are pixels from the middle of the plot.
    plots_u = np.maximum(1, np.round(u.width / of_style([entry.plot[0] for entry in styles])))
    plots_v = np.maximum(1, np.round(v.width / of_style([entry.plot[1] for entry in styles])))
    plot_u, plot_v = (
        np.clip(np.floor(axis.inside / axis.width * plots), 0, plots - 1)
        for axis, plots in ((u, plots_u), (v, plots_v))
    )
    size_u, size_v = u.width / plots_u, v.width / plots_v
    place_u, place_v = u.inside - (plot_u + 0.5) * size_u, v.inside - (plot_v + 0.5) * size_v
    plot = hash_index(int(rng.integers(2**31)), _TABLE_SIZE, block, plot_u, plot_v)

    table = rng.random((9, _TABLE_SIZE)).astype(np.float32)
    place_u -= ((table[0] - 0.5) * 0.16)[plot] * size_u
    place_v -= ((table[1] - 0.5) * 0.16)[plot] * size_v
    half_u = size_u * of_style([entry.filling[0] for entry in styles]) * (0.85 + 0.3 * table[2])[plot] / 2
    half_v = size_v * of_style([entry.filling[1] for entry in styles]) * (0.85 + 0.3 * table[3])[plot] / 2
    rectangle = (np.abs(place_u) < half_u) & (np.abs(place_v) < half_v)
    notch = (place_u > half_u * 0.15) & (place_v * np.where(table[4] < 0.5, 1, -1)[plot] > half_v * 0.1)
    rectangle &= ~(notch & (table[5] < 0.4)[plot])

    # Wings stand along the block's edge; the same variables describe their cross-section.
    edge = np.minimum(np.minimum(u.inside, u.width - u.inside), np.minimum(v.inside, v.width - v.inside))
    courtyard = np.array([entry.courtyard for entry in styles])[style]
    wing = (edge > _WING_GAP) & (edge < _COURTYARD_WING)
    built = np.where(courtyard, wing, rectangle & (table[6] < 0.91)[plot])
    built &= city.mask & _plot_is_free(canvas, geography, u, v, place_u, place_v)

    slope = np.where(half_u > half_v, np.abs(place_v) / half_v, np.abs(place_u) / half_u)
    slope = np.where(courtyard, np.abs(edge - (_COURTYARD_WING + _WING_GAP) / 2) / (_COURTYARD_WING / 2), slope)
    low, high = of_style([entry.heights[0] for entry in styles]), of_style([entry.heights[1] for entry in styles])
    ridge = of_style([entry.ridge for entry in styles]) * (1 - np.clip(slope, 0, 1))
    city.height[built] = (low + (high - low) * table[7][plot] + ridge)[built]

    roofs = np.zeros((len(styles), 8, 3), np.float32)
    for row, entry in zip(roofs, styles, strict=True):
        row[:] = np.array(entry.roofs, np.float32)[np.arange(8) % len(entry.roofs)]
    pick = (table[8] * 8).astype(np.intp)[plot]
    tint = (1 + 0.06 * rng.standard_normal(_TABLE_SIZE)).astype(np.float32)[plot]
    color = roofs[style, pick] * tint[..., None]
    flat = of_style([entry.ridge for entry in styles]) <= 0
    machinery = flat & (canvas.noise(rng, 5.0, 1) > 1.5)
    color[machinery] *= 0.78
    color[flat & (np.minimum(half_u - np.abs(place_u), half_v - np.abs(place_v)) < 0.7)] *= 1.12  # parapet
    city.color[built] = color[built]
    city.backscatter[built] = (-10.5 + 5.0 * (table[7][plot] - 0.5) + np.where(machinery, 7.0, 0.0))[built]
    city.height[built & machinery] += 2.0


def _plot_is_free(
    canvas: Canvas, geography: Geography, u: _Axis, v: _Axis, place_u: np.ndarray, place_v: np.ndarray
) -> np.ndarray:
    """Whether the middle of each pixel's building is clear of water and main roads, so that no building is cut."""
    along, across = canvas.rotated(geography.streets.angle)
    here = canvas.to_indices(*_to_scene(canvas, geography, along - place_u, across - place_v))
    free = geography.water_distance[here] > 6.0
    for road in geography.main_roads:
        free &= np.abs(road.across)[here] > road.width / 2 + 4.5
    return free
