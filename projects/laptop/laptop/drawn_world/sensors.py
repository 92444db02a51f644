"""The two sensors: a nadir camera in sunlight, and a side-looking radar."""

from dataclasses import dataclass

import cv2
import numpy as np

from laptop.drawn_world.domain import Domain
from laptop.drawn_world.geography import GROUND_SAMPLING_DISTANCE, MARGIN, SUPERSAMPLING, SYNTHETIC_CLASSES, Canvas
from laptop.drawn_world.land import Land
from mm_ovseg.data.fractal_clouds import shifted

__all__ = ["Sun", "cast_heights", "draw_sun", "observe_sar", "photograph", "reduce_label", "to_8bit"]

_METRES_PER_CANVAS_PIXEL = GROUND_SAMPLING_DISTANCE / SUPERSAMPLING


def _reduce(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Crop the margin and average the canvas pixels of each scene pixel."""
    margin = MARGIN * SUPERSAMPLING
    inner = np.ascontiguousarray(image[margin:-margin, margin:-margin])
    return cv2.resize(inner, (canvas.size, canvas.size), interpolation=cv2.INTER_AREA)


def reduce_label(label: np.ndarray, canvas: Canvas) -> np.ndarray:
    """The class with the largest share of each scene pixel."""
    shares = [_reduce((label == index).astype(np.float32), canvas) for index in range(len(SYNTHETIC_CLASSES))]
    return np.argmax(shares, axis=0).astype(np.uint8)


def to_8bit(image: np.ndarray) -> np.ndarray:
    """Clip values to 0..255 and round to uint8."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Sun:
    """The position of the sun."""

    toward: tuple[float, float]  # unit vector on the ground, to the sun
    tangent: float  # of the elevation


def draw_sun(rng: np.random.Generator, domain: Domain) -> Sun:
    """A sun between morning and early afternoon."""
    azimuth = np.deg2rad(rng.uniform(100, 200))  # clockwise from north
    elevation = np.deg2rad(rng.uniform(*domain.sun_elevation))
    return Sun((float(np.sin(azimuth)), float(-np.cos(azimuth))), float(np.tan(elevation)))


def _slope(height: np.ndarray, direction: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Rise per metre along a direction, and the squared steepness."""
    scale = 1 / (8 * _METRES_PER_CANVAS_PIXEL)
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=scale)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=scale)
    return dx * direction[0] + dy * direction[1], dx * dx + dy * dy


def photograph(land: Land, sun: Sun, canvas: Canvas, domain: Domain) -> np.ndarray:
    """The clear image (size, size, 3), 0..1: sunlight on slopes and roofs, blue skylight in shadows, haze, blur."""
    rise, steepness = _slope(land.height, sun.toward)
    facing = (1 - rise / np.float32(sun.tangent)) / np.sqrt(1 + steepness)
    away = (-sun.toward[0], -sun.toward[1])
    shadow = cast_heights(land.height, away, drop=sun.tangent * _METRES_PER_CANVAS_PIXEL) - land.height
    direct = np.clip(facing, 0.25, 1.5) * (1 - np.clip(shadow / 0.8, 0, 1))
    sky = np.array([0.30, 0.34, 0.41], np.float32)
    sunlight = np.array([0.70, 0.66, 0.59], np.float32)
    image = land.color * (sky + sunlight * direct[..., None])
    haze = np.array([0.75, 0.85, 1.0], np.float32) * np.float32(domain.haze)
    image = (image * (1 - np.float32(domain.haze)) + haze) * np.asarray(domain.rgb_gain, np.float32)
    return _reduce(cv2.GaussianBlur(image, (0, 0), 0.45 * SUPERSAMPLING), canvas)


def observe_sar(
    rng: np.random.Generator, land: Land, canvas: Canvas, domain: Domain, speckle_looks: float
) -> np.ndarray:
    """Radar amplitude, (H, W) uint8.

    Rough surfaces scatter by their backscatter and their tilt toward the sensor; walls that face it are
    corner reflectors with the ground, with layover towards the sensor and shadow behind. Speckle multiplies the power
    by gamma noise of mean 1 and variance 1 / looks.
    """
    heading = float(rng.choice([0.0, np.pi]) + np.deg2rad(rng.uniform(-14, 14)))
    away = float(np.cos(heading)), float(np.sin(heading))  # from the sensor into the scene
    toward = (-away[0], -away[1])
    tangent = float(np.tan(np.deg2rad(domain.incidence_angle)))

    rise, _ = _slope(land.height - land.buildings, away)
    tilt = np.clip(2.2 * rise, -2.5, 2.5)
    power = 10 ** ((land.backscatter + tilt) / 10)

    buildings = land.buildings
    shadow = cast_heights(land.height, away, drop=_METRES_PER_CANVAS_PIXEL / tangent) - land.height
    power *= 1 - 0.93 * np.clip(shadow / 2.0, 0, 1)
    # Walls perpendicular to the look direction return most.
    turn = land.wall_angle - heading
    facing = 0.25 + 0.75 * float(max(abs(np.cos(turn)), abs(np.sin(turn)))) ** 10
    glitter = rng.gamma(0.45, 1 / 0.45, canvas.shape).astype(np.float32)  # a few facade parts give most of the return
    layover = np.clip(cast_heights(buildings, toward, drop=_METRES_PER_CANVAS_PIXEL * tangent) - buildings, 0, None)
    power += 0.28 * facing * (layover > 0.5) * glitter
    ahead = np.maximum(shifted(buildings, toward[0] * 1.5, toward[1] * 1.5), shifted(buildings, toward[0], toward[1]))
    wall = np.clip(ahead - buildings - 1.0, 0, 12) / 12
    power += 9.0 * facing * wall * glitter

    power = _reduce(cv2.GaussianBlur(power, (0, 0), 0.5 * SUPERSAMPLING), canvas)
    strong = np.maximum(power - 3.0, 0)
    sidelobes = np.array([0.004, 0.008, 0.0, 0.035, 0.10, 0.0, 0.10, 0.035, 0.0, 0.008, 0.004], np.float32)
    spread = cv2.filter2D(strong, -1, sidelobes[None]) + cv2.filter2D(strong, -1, sidelobes[:, None])
    power = power + spread
    power *= rng.gamma(speckle_looks, 1 / speckle_looks, power.shape)
    return to_8bit(255 * domain.sar_gain * np.sqrt(power) * 0.85)


def cast_heights(heights: np.ndarray, direction: tuple[float, float], drop: float, doublings: int = 6) -> np.ndarray:
    """Height of the shadow volume that objects cast along a direction.

    Args:
        heights: (H, W) float32 in metres.
        direction: Unit vector (x right, y down) along which the shadow falls.
        drop: Metres by which the shadow's upper edge sinks per pixel.
        doublings: The shadow reaches 2 ** doublings - 1 pixels.

    Returns:
        (H, W) float32 in metres, at least ``heights``; a point is in shadow where it exceeds ``heights``.
    """
    cast = heights
    for doubling in range(doublings):
        distance = 2**doubling
        moved = shifted(cast, direction[0] * distance, direction[1] * distance)
        cast = np.maximum(cast, moved - np.float32(drop * distance))
    return cast
