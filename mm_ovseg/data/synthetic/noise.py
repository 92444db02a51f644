"""Seeded building blocks of the synthetic scenes: smooth noise, hashed look-ups, cast shadows.

Nothing here looks at an image's own minimum, maximum or mean: noise has mean 0 and standard deviation about 1 by
construction, so that a threshold or an amplitude means the same in every scene.
"""

import cv2
import numpy as np

__all__ = ["cast_heights", "fractal_noise", "hash_index", "shifted", "smoothstep"]

# Standard deviation of unit normal values after bicubic interpolation at random places between them.
_INTERPOLATED_DEVIATION = 0.86


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
    """Smooth noise of several scales.

    Args:
        rng: Source of the random values.
        shape: Height and width in pixels.
        wavelength: Distance in pixels between independent values of the coarsest octave; each octave halves it.
        octaves: Number of scales.
        persistence: Amplitude of an octave as a share of the one before.

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
        phase = rng.uniform(1.0, 2.0, 2)  # at least one value beyond each border, for the bicubic kernel
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


def hash_index(salt: int, table_size: int, *identifiers: np.ndarray) -> np.ndarray:
    """Map integer identifiers (of a parcel, of a building plot) to well-mixed indices of a random table.

    Args:
        salt: Makes the mapping differ between scenes.
        table_size: A power of two.
        *identifiers: Integer arrays of one shape, negative values allowed.

    Returns:
        Integer array of that shape, 0..table_size - 1.
    """
    mixed = np.full(np.shape(identifiers[0]), salt & 0xFFFFFFFF, np.uint32)
    for identifier in identifiers:
        mixed ^= identifier.astype(np.int32).view(np.uint32) * np.uint32(0x9E3779B1)
        mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        mixed ^= mixed >> np.uint32(13)
    return (mixed & np.uint32(table_size - 1)).astype(np.intp)


def shifted(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Move an (H, W) image by (dx, dy) pixels, right and down, filling with the nearest border value."""
    height, width = image.shape
    motion = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]])
    return cv2.warpAffine(image, motion, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


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
