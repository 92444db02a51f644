"""One synthetic RGB-SAR pair with its land cover, drawn from a seed.

Two sensors observe the ground (:mod:`laptop.drawn_world.land`): a nadir camera in sunlight, above the clouds, and a
side-looking radar, which sees through them.

    scene = generate_scene(seed=7, size=256)
    scene.rgb, scene.sar, scene.label
"""

from dataclasses import dataclass

import numpy as np

from laptop.drawn_world.domain import DOMAINS, get_domain
from laptop.drawn_world.geography import Canvas
from laptop.drawn_world.land import draw_land
from laptop.drawn_world.sensors import draw_sun, observe_sar, photograph, reduce_label, to_8bit
from mm_ovseg.data.clouds import Clouds
from mm_ovseg.data.fractal_clouds import draw_fractal_clouds, look_through_clouds
from mm_ovseg.errors import ConfigError

__all__ = ["SyntheticScene", "check_scene_arguments", "generate_scene"]

MIN_SIZE = 64


@dataclass(frozen=True)
class SyntheticScene:
    """One pair with its label.

    Attributes:
        rgb: (H, W, 3) uint8, what the camera sees, clouds included.
        clear_rgb: (H, W, 3) uint8, the same without clouds.
        sar: (H, W) uint8, amplitude with a fixed gain, speckled.
        label: (H, W) uint8, indices into ``SYNTHETIC_CLASSES``; the true class even under clouds and in shadow.
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
    """Draw one scene, deterministically for given arguments.

    Clouds and speckle have separate random values: changing them does not change ground and light.

    Args:
        seed: Number of the scene, or a SeedSequence (which is not advanced).
        size: Side in pixels, at least 64; a pixel is 2 m wide.
        domain: "a" or "b": another region of the world and other sensors (:mod:`laptop.drawn_world.domain`).
        cloud_thickness: Opacity of cloud cores, 0 (no clouds) to 1 (opaque).
        cloud_cover: Share of the ground under clouds, 0 to 1, on average over many scenes.
        speckle_looks: Number of looks of the SAR image (fewer: stronger speckle); None for the domain's own.
        clouds: Draws the clouds (:mod:`mm_ovseg.data.clouds`), instead of ``cloud_thickness`` and ``cloud_cover``; None
            for fractal clouds as described by those.

    Returns:
        The scene.

    Raises:
        ConfigError: An argument is out of range, or the domain does not exist.
    """
    check_scene_arguments(size, cloud_thickness, cloud_cover, speckle_looks)
    look = get_domain(domain)
    ground_rng, light_rng, sar_rng, cloud_rng = _independent_generators(seed, list(DOMAINS).index(domain), 4)
    canvas = Canvas(size)
    land = draw_land(ground_rng, canvas, look)
    sun = draw_sun(light_rng, look)
    clear = photograph(land, sun, canvas, look)
    clear += 0.006 * light_rng.standard_normal((size, size, 3), dtype=np.float32)
    clear_rgb = to_8bit(clear * 255)
    if clouds is None:
        cloud, shadow, color = draw_fractal_clouds(
            cloud_rng, (size, size), sun.toward, thickness=cloud_thickness, cover=cloud_cover
        )
        rgb = to_8bit(look_through_clouds(clear, cloud, shadow, color) * 255)
    else:
        cloudy = clouds(clear_rgb, np.ones((size, size), bool), int(cloud_rng.integers(2**32)))
        rgb, cloud = cloudy.image, cloudy.opacity
    return SyntheticScene(
        rgb=rgb,
        clear_rgb=clear_rgb,
        sar=observe_sar(sar_rng, land, canvas, look, speckle_looks or look.speckle_looks),
        label=reduce_label(land.label, canvas),
        cloud=cloud,
    )


def check_scene_arguments(size: int, cloud_thickness: float, cloud_cover: float, speckle_looks: float | None) -> None:
    """Raise the ConfigErrors of :func:`generate_scene` without drawing."""
    if not isinstance(size, int | np.integer) or size < MIN_SIZE:
        raise ConfigError(f"A synthetic scene of size {size} cannot be drawn; give at least {MIN_SIZE} pixels.")
    for name, value in (("cloud_thickness", cloud_thickness), ("cloud_cover", cloud_cover)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value}; give a number from 0 to 1.")
    if speckle_looks is not None and not speckle_looks > 0:
        raise ConfigError(f"speckle_looks is {speckle_looks}; give a positive number, or None for that of the domain.")


def _independent_generators(
    seed: int | np.random.SeedSequence, domain_index: int, count: int
) -> list[np.random.Generator]:
    """Generators for parts of a scene. Unlike SeedSequence.spawn, this leaves a given sequence as it is.

    The domain is part of the key, since one seed must not give two domains the same river.
    """
    parent = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return [
        np.random.default_rng(np.random.SeedSequence(parent.entropy, spawn_key=(*parent.spawn_key, domain_index, part)))
        for part in range(count)
    ]
