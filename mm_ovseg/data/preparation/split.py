"""Which tiles are held out: whole neighbourhoods or whole scenes, never tiles at random.

Neighbouring tiles show the same fields and streets, so a held-out tile among training ones measures memory. What is
held out hangs on names or places and a seed only, not on the order or number of files.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from rasterio.transform import array_bounds

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import RasterInfo

__all__ = ["SPLITS", "keep_apart", "split_by_place", "split_by_scene"]

SPLITS = ("train", "val")


def split_by_place(
    tiles: Sequence[RasterInfo], *, val_fraction: float, block: float, seed: int = 0
) -> list[str | None]:
    """Hold out tiles by the square of ground in which their centre lies.

    The ground is cut into squares; one is held out if a hash of its place and the seed falls below ``val_fraction``.
    Tiles whose centre lies in it are held out, and no training tile overlaps one of them.

    Args:
        tiles: Headers with a coordinate reference system and a geotransform.
        val_fraction: Share of the squares that is held out, 0..1.
        block: Side of a square, in units of the reference system (metres in UTM).
        seed: Another one holds out other squares.

    Returns:
        For each tile "train", "val", or None for one that would be trained on but overlaps a held-out tile: it belongs
        to neither.

    Raises:
        DataError: A tile has no georeference.
    """
    bounds = np.array([_bounds(tile) for tile in tiles]).reshape(-1, 4)  # left, bottom, right, top
    systems = np.array([tile.crs.to_string() for tile in tiles])
    squares = np.floor((bounds[:, :2] + bounds[:, 2:]) / 2 / block).astype(int)
    held_out = np.array(
        [
            _hash_to_unit(seed, system, *square) < val_fraction
            for system, square in zip(systems, squares.tolist(), strict=True)
        ],
        dtype=bool,
    )
    # Neighbours that share an edge do not overlap, though rounding may say so.
    return keep_apart(bounds, systems, held_out, margins=1e-6 * (bounds[:, 2] - bounds[:, 0]))


def keep_apart(bounds: np.ndarray, planes: np.ndarray, held_out: np.ndarray, margins: np.ndarray) -> list[str | None]:
    """The split of each tile, where training tiles must not overlap held-out ones.

    Args:
        bounds: float (N, 4): left, bottom, right, top.
        planes: (N,) names of what the bounds are coordinates of; only those of one plane can overlap.
        held_out: bool (N,).
        margins: float (N,): by how much a tile may reach into a neighbour.

    Returns:
        "train", "val", or None for one that would be trained on but overlaps a held-out tile.
    """
    splits: list[str | None] = []
    for index, (left, bottom, right, top) in enumerate(bounds):
        margin = margins[index]
        overlaps = (
            held_out
            & (planes == planes[index])
            & (bounds[:, 0] < right - margin)
            & (bounds[:, 2] > left + margin)
            & (bounds[:, 1] < top - margin)
            & (bounds[:, 3] > bottom + margin)
        )
        splits.append("val" if held_out[index] else None if overlaps.any() else "train")
    return splits


def split_by_scene(
    scenes: Sequence[str], *, val_fraction: float, seed: int = 0, held_out: Sequence[str] = ()
) -> list[str]:
    """Hold out all tiles of some scenes (cities, acquisitions).

    Args:
        scenes: The scene of each tile.
        val_fraction: Share of the scenes that is held out, 0..1, rounded to whole scenes: at least one unless it is 0
            or there is only one scene. Those first in the order of a hash of seed and name are taken.
        seed: Another one holds out other scenes.
        held_out: Names of the scenes to hold out, instead of a share.

    Returns:
        For each tile "train" or "val".

    Raises:
        ConfigError: A scene to be held out does not exist.
    """
    names = sorted(set(scenes))
    if unknown := [name for name in held_out if name not in names]:
        raise ConfigError(f"There is no scene '{unknown[0]}' to hold out; the scenes are {', '.join(names)}.")
    if not held_out and val_fraction > 0:
        # Python's round() goes to even numbers.
        count = min(max(1, math.floor(val_fraction * len(names) + 0.5)), len(names) - 1)
        held_out = sorted(names, key=lambda name: _hash_to_unit(seed, name))[: max(count, 0)]
    return ["val" if scene in held_out else "train" for scene in scenes]


def _bounds(tile: RasterInfo) -> tuple[float, float, float, float]:
    """Left, bottom, right, top in the tile's reference system."""
    if tile.crs is None or tile.transform is None:
        raise DataError(f"{tile.path} has no georeference, so it cannot be held out by place; take the original file.")
    return array_bounds(tile.height, tile.width, tile.transform)


def _hash_to_unit(*parts: str | int) -> float:
    """A number in [0, 1) that hangs on the parts only."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
