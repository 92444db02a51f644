"""Hashed look-ups and cast shadows."""

import numpy as np

from mm_ovseg.data.fractal_clouds import shifted

__all__ = ["cast_heights", "hash_index"]


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
