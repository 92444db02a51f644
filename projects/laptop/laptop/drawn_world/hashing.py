"""Hashed look-ups in tables of random values."""

import numpy as np

__all__ = ["hash_index"]


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
