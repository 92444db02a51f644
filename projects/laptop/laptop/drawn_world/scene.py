"""One synthetic RGB-SAR pair with its land cover, drawn from a seed.

The ground (:mod:`laptop.drawn_world.land`) is looked at by two sensors: a nadir camera in sunlight, with clouds
between, and a side-looking radar, which sees through them.

    scene = generate_scene(seed=7, size=256)
    scene.rgb, scene.sar, scene.label
"""

from dataclasses import dataclass

import cv2
import numpy as np

from laptop.drawn_world.domain import DOMAINS, Domain, get_domain
from laptop.drawn_world.land import Land, draw_land
from laptop.drawn_world.layout import GROUND_SAMPLING_DISTANCE, MARGIN, SUPERSAMPLING, SYNTHETIC_CLASSES, Canvas
from laptop.drawn_world.noise import cast_heights
from mm_ovseg.data.clouds import Clouds
from mm_ovseg.data.fractal_clouds import draw_fractal_clouds, look_through_clouds, shifted
from mm_ovseg.errors import ConfigError

__all__ = ["SyntheticScene", "check_scene_arguments", "generate_scene"]

MINIMUM_SIZE = 64
_METRES_PER_CANVAS_PIXEL = GROUND_SAMPLING_DISTANCE / SUPERSAMPLING


@dataclass(frozen=True)
class SyntheticScene:
    """One pair with its label.

    Attributes:
        rgb: (H, W, 3) uint8, what the camera sees, clouds included.
        clear_rgb: (H, W, 3) uint8, the same without clouds.
        sar: (H, W) uint8, amplitude with a fixed gain, speckled.
        label: (H, W) uint8, indices into ``SYNTHETIC_CLASSES``; the true class also under clouds and in shadow.
        cloud: (H, W) float32, opacity of the cloud, 0 (clear) to 1 (nothing of the ground is visible).
    """

    rgb: np.ndarray
    clear_rgb: np.ndarray
    sar: np.ndarray
    label: np.ndarray
    cloud: np.ndarray


def generate_scene(
    seed: int | np.random.SeedSequence,
    size: int = 256,
    *,
    domain: str = "a",
    cloud_thickness: float = 0.9,
    cloud_cover: float = 0.45,
    speckle_looks: float | None = None,
    clouds: Clouds | None = None,
) -> SyntheticScene:
    """Draw one scene. The same arguments give the same bits, whatever was drawn before.

    Clouds and speckle have random values of their own: changing them leaves ground and light as they are.

    Args:
        seed: Number of the scene, or a SeedSequence (which is not advanced).
        size: Side in pixels, at least 64; a pixel is 2 m wide.
        domain: "a" or "b": another region of the world and other sensors (:mod:`laptop.drawn_world.domain`).
        cloud_thickness: Opacity of the clouds' cores, 0 (no clouds) to 1 (opaque).
        cloud_cover: Share of the ground under clouds, 0 to 1, on average over many scenes.
        speckle_looks: Number of looks of the SAR image (fewer: stronger speckle); None for the domain's own.
        clouds: What draws the clouds (:mod:`mm_ovseg.data.clouds`), whatever ``cloud_thickness`` and ``cloud_cover``
            say; None for the dataset's own, which those describe.

    Returns:
        The scene.

    Raises:
        ConfigError: An argument is out of range, or there is no such domain.
    """
    check_scene_arguments(size, cloud_thickness, cloud_cover, speckle_looks)
    look = get_domain(domain)
    ground_rng, light_rng, sar_rng, cloud_rng = _independent_generators(seed, list(DOMAINS).index(domain), 4)
    canvas = Canvas(size)
    land = draw_land(ground_rng, canvas, look)
    sun = _draw_sun(light_rng, look)
    ground = _light(land, sun, look)
    noise = 0.006 * light_rng.standard_normal((size, size, 3), dtype=np.float32)
    clear = _finish(ground, canvas) + noise
    clear_rgb = _to_8bit(clear * 255)
    if clouds is None:
        cloud, shadow, color = draw_fractal_clouds(
            cloud_rng, (size, size), sun.toward, thickness=cloud_thickness, cover=cloud_cover
        )
        rgb = _to_8bit(look_through_clouds(clear, cloud, shadow, color) * 255)
    else:
        cloudy = clouds(clear_rgb, np.ones((size, size), bool), int(cloud_rng.integers(2**32)))
        rgb, cloud = cloudy.image, cloudy.opacity
    return SyntheticScene(
        rgb=rgb,
        clear_rgb=clear_rgb,
        sar=_observe_sar(sar_rng, land, canvas, look, speckle_looks or look.speckle_looks),
        label=_reduce_label(land.label, canvas),
        cloud=cloud,
    )


def check_scene_arguments(size: int, cloud_thickness: float, cloud_cover: float, speckle_looks: float | None) -> None:
    """Raise the ConfigErrors of :func:`generate_scene`, without drawing anything."""
    if not isinstance(size, int | np.integer) or size < MINIMUM_SIZE:
        raise ConfigError(f"A synthetic scene of size {size} cannot be drawn; give at least {MINIMUM_SIZE} pixels.")
    for name, value in (("cloud_thickness", cloud_thickness), ("cloud_cover", cloud_cover)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value}; give a number from 0 to 1.")
    if speckle_looks is not None and not speckle_looks > 0:
        raise ConfigError(f"speckle_looks is {speckle_looks}; give a number above 0, or None for the domain's own.")


def _independent_generators(
    seed: int | np.random.SeedSequence, domain_index: int, count: int
) -> list[np.random.Generator]:
    """Generators for parts of a scene. Unlike SeedSequence.spawn, this leaves a given sequence as it is.

    The domain is part of the key: one seed must not give two domains the same river, or they would not be apart.
    """
    parent = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return [
        np.random.default_rng(np.random.SeedSequence(parent.entropy, spawn_key=(*parent.spawn_key, domain_index, part)))
        for part in range(count)
    ]


def _reduce(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Cut the margin off and average the canvas pixels of each scene pixel."""
    margin = MARGIN * SUPERSAMPLING
    inner = np.ascontiguousarray(image[margin:-margin, margin:-margin])
    return cv2.resize(inner, (canvas.size, canvas.size), interpolation=cv2.INTER_AREA)


def _reduce_label(label: np.ndarray, canvas: Canvas) -> np.ndarray:
    """The class with the largest share of each scene pixel."""
    shares = [_reduce((label == index).astype(np.float32), canvas) for index in range(len(SYNTHETIC_CLASSES))]
    return np.argmax(shares, axis=0).astype(np.uint8)


def _to_8bit(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Sun:
    toward: tuple[float, float]  # unit vector on the ground, to the sun
    tangent: float  # of the elevation


def _draw_sun(rng: np.random.Generator, domain: Domain) -> _Sun:
    azimuth = np.deg2rad(rng.uniform(100, 200))  # clockwise from north: morning to early afternoon
    elevation = np.deg2rad(rng.uniform(*domain.sun_elevation))
    return _Sun((float(np.sin(azimuth)), float(-np.cos(azimuth))), float(np.tan(elevation)))


def _slope(height: np.ndarray, direction: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Rise per metre along a direction, and the squared steepness."""
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / (8 * _METRES_PER_CANVAS_PIXEL))
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / (8 * _METRES_PER_CANVAS_PIXEL))
    return dx * direction[0] + dy * direction[1], dx * dx + dy * dy


def _light(land: Land, sun: _Sun, domain: Domain) -> np.ndarray:
    """Sunlight on slopes and roofs, shadows filled by blue skylight, haze. (H, W, 3), 0..1."""
    rise, steepness = _slope(land.height, sun.toward)
    facing = (1 - rise / np.float32(sun.tangent)) / np.sqrt(1 + steepness)
    away = (-sun.toward[0], -sun.toward[1])
    shadow = cast_heights(land.height, away, drop=sun.tangent * _METRES_PER_CANVAS_PIXEL) - land.height
    direct = np.clip(facing, 0.25, 1.5) * (1 - np.clip(shadow / 0.8, 0, 1))
    sky = np.array([0.30, 0.34, 0.41], np.float32)
    sunlight = np.array([0.70, 0.66, 0.59], np.float32)
    image = land.color * (sky + sunlight * direct[..., None])
    haze = np.array([0.75, 0.85, 1.0], np.float32) * np.float32(domain.haze)
    return (image * (1 - np.float32(domain.haze)) + haze) * np.asarray(domain.rgb_gain, np.float32)


def _finish(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """The optics' blur, and the camera's pixels."""
    return _reduce(cv2.GaussianBlur(image, (0, 0), 0.45 * SUPERSAMPLING), canvas)


def _observe_sar(
    rng: np.random.Generator, land: Land, canvas: Canvas, domain: Domain, speckle_looks: float
) -> np.ndarray:
    """Radar amplitude, (H, W) uint8.

    Rough surfaces scatter by their backscatter and their tilt toward the sensor; walls that face it, with the ground
    before them, are corner reflectors and lie over toward it; behind them is shadow. Speckle multiplies the power by
    gamma noise of mean 1 and variance 1 / looks.
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
    # Walls square to the look direction return most.
    turn = land.wall_angle - heading
    facing = 0.25 + 0.75 * float(max(abs(np.cos(turn)), abs(np.sin(turn)))) ** 10
    glitter = rng.gamma(0.45, 1 / 0.45, canvas.shape).astype(np.float32)  # few facade parts give most of the return
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
    return _to_8bit(255 * domain.sar_gain * np.sqrt(power) * 0.85)
