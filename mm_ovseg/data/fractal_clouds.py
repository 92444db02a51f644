"""Fractal clouds, with shadows and lit by the sun, which need no other library.

Nothing depends on an image's own minimum, maximum or mean: the noise has mean 0 and standard deviation about 1 by
construction, so that a threshold or an amplitude means the same in every image.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from mm_ovseg.data.clouds import CLOUDS_REGISTRY, CloudyImage

__all__ = ["FractalClouds", "draw_fractal_clouds", "fractal_noise", "look_through_clouds", "shifted", "smoothstep"]

THICKNESS = (0.75, 1.0)  # opacity of the cores
COVER = (0.3, 0.6)
# Standard deviation of unit normal values after bicubic interpolation at random positions between them.
_INTERPOLATED_DEVIATION = 0.86


class FractalClouds:
    """Thick fractal clouds over any image; see :class:`~mm_ovseg.data.clouds.Clouds`."""

    def __init__(self, cover: Sequence[float] = ()) -> None:
        """Take the range of the share of ground under clouds, within 0..1; empty for 0.3 to 0.6."""
        self.cover = tuple(cover) or COVER

    def __call__(self, image: np.ndarray, valid: np.ndarray, seed: int) -> CloudyImage:
        """Draw clouds over an image uint8 (H, W, 3)."""
        rng = np.random.default_rng(seed)
        sun = rng.uniform(0, 2 * np.pi)
        opacity, shadow, color = draw_fractal_clouds(
            rng,
            valid.shape,
            (float(np.cos(sun)), float(np.sin(sun))),
            thickness=rng.uniform(*THICKNESS),
            cover=rng.uniform(*self.cover),
        )
        cloudy = np.rint(255 * look_through_clouds(image / np.float32(255), opacity, shadow, color))
        nothing = np.float32(0)
        return CloudyImage(
            np.where(valid[..., None], np.clip(cloudy, 0, 255).astype(np.uint8), image),
            np.where(valid, opacity, nothing),
            np.where(valid, shadow, nothing),
        )


@CLOUDS_REGISTRY.register()
def fractal(cover: Sequence[float] = ()) -> FractalClouds:
    """Thick fractal clouds."""
    return FractalClouds(cover)


def draw_fractal_clouds(
    rng: np.random.Generator,
    shape: tuple[int, int],
    toward_sun: tuple[float, float],
    *,
    thickness: float,
    cover: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw clouds.

    Args:
        rng: Source of the random values.
        shape: Height and width in pixels.
        toward_sun: Unit vector on the ground (x right, y down).
        thickness: Opacity of the cores, 0 to 1.
        cover: Share of the ground under clouds, 0 to 1, on average over many seeds.

    Returns:
        opacity: (H, W) float32, 0..1.
        shadow: (H, W) float32, 0..1, loss of light in the clouds' shadow.
        color: (H, W, 3) float32, 0..1, of the clouds.
    """
    # Imported here, since importing mm_ovseg imports this module and SciPy would make that 0.15 s slower.
    from scipy.special import ndtri

    height, width = shape
    reach = 24  # shadows fall in from beyond the border
    billow = fractal_noise(rng, (height + 2 * reach, width + 2 * reach), 72.0, octaves=6, persistence=0.58)
    border = float(ndtri(np.clip(1 - cover, 1e-4, 1 - 1e-4))) if cover > 0 else np.inf
    if thickness == 0 or not np.isfinite(border):
        empty = np.zeros(shape, np.float32)
        return empty, empty, np.ones((*shape, 3), np.float32)
    opacity = np.float32(thickness) * smoothstep(border - 0.40, border + 0.55, billow)
    distance = rng.uniform(9, 16)
    shadow = shifted(opacity, -toward_sun[0] * distance, -toward_sun[1] * distance)
    shadow = 0.48 * cv2.GaussianBlur(shadow, (0, 0), 2.0)
    # The side toward the sun is brighter, the middle of a thick cloud brightest.
    soft = cv2.GaussianBlur(billow, (0, 0), 1.5)
    relief = soft - shifted(soft, toward_sun[0] * 3, toward_sun[1] * 3)
    brightness = 0.90 + 0.05 * np.tanh(billow - border) - 0.10 * np.tanh(1.2 * relief)
    color = np.clip(brightness[..., None] * np.array([0.99, 1.0, 1.02], np.float32), 0, 1)
    inner = slice(reach, reach + height), slice(reach, reach + width)
    return opacity[inner], shadow[inner], color[inner].astype(np.float32)


def look_through_clouds(clear: np.ndarray, opacity: np.ndarray, shadow: np.ndarray, color: np.ndarray) -> np.ndarray:
    """A clear image (H, W, 3), 0..1, under the clouds of :func:`draw_fractal_clouds`."""
    under_cloud = clear * (1 - shadow)[..., None]
    return under_cloud + (color - under_cloud) * opacity[..., None]


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Rise from 0 at ``low`` to 1 at ``high`` with zero slope at both ends; ``high < low`` falls instead."""
    ramp = np.clip((value - low) / (high - low), 0.0, 1.0)
    return ramp * ramp * (3.0 - 2.0 * ramp)


def fractal_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    wavelength: float,
    *,
    octaves: int = 4,
    persistence: float = 0.5,
) -> np.ndarray:
    """Smooth noise at several scales.

    Args:
        rng: Source of the random values.
        shape: Height and width in pixels.
        wavelength: Distance in pixels between independent values of the coarsest octave; each octave halves it.
        octaves: Number of scales.
        persistence: Amplitude of an octave relative to the one before.

    Returns:
        (H, W) float32 of mean 0 and standard deviation about 1 over all seeds.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    variance = 0.0
    for octave in range(octaves):
        step = wavelength / 2**octave
        if step < 1.5:
            break
        values = rng.standard_normal((int(height / step) + 4, int(width / step) + 4), dtype=np.float32)
        phase = rng.uniform(1.0, 2.0, 2)  # at least one value beyond each border for the bicubic kernel
        to_values = np.array([[1 / step, 0.0, phase[0]], [0.0, 1 / step, phase[1]]])
        layer = cv2.warpAffine(
            values,
            to_values,
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        total += layer * np.float32(persistence**octave)
        variance += persistence ** (2 * octave)
    return total / np.float32(_INTERPOLATED_DEVIATION * max(variance, 1e-6) ** 0.5)


def shifted(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Move an (H, W) image by (dx, dy) pixels, right and down, filling with the nearest border value."""
    height, width = image.shape
    motion = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]])
    return cv2.warpAffine(image, motion, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
