"""Holding out tiles: whole squares of ground, whole scenes or one side of the map, never random tiles.

Neighbouring tiles show the same fields and streets, so a held-out tile among training tiles measures memorisation. All
splits are made here, based on :mod:`mm_ovseg.raster.footprint`. They depend on locations or names and a seed, not on
the order of files.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mm_ovseg.errors import ConfigError
from mm_ovseg.raster.footprint import EARTH, Footprint, overlap_shares, overlaps

__all__ = ["SPLITS", "HoldOut", "hold_out", "keep_apart", "split_by_scene", "split_into_squares"]

SPLITS = ("train", "val")
EARTH_RADIUS = 6_371_008.8  # metres, the mean
SAME_PLACE_SHARE = 0.01  # of the smaller one's area; pairs that share less are neighbours


def split_into_squares(
    places: Sequence[Footprint], *, sides: Mapping[str, float], val_fraction: float, seed: int = 0
) -> list[str | None]:
    """Hold out squares of ground, the same ones in all scenes that show them, whatever their reference systems.

    The Earth is divided into rows of equal height along parallels, and each row into squares along meridians. A tile
    belongs to the square that contains its centre. A square is held out if a hash of its position and the seed is below
    ``val_fraction``, regardless of other tiles. Only if that would hold out no square, or all of them, the square with
    the lowest hash is held out, or the one with the highest is trained on.

    Args:
        places: The tiles, from one call of :func:`~mm_ovseg.raster.footprint.footprints`.
        sides: Side of the squares for each plane of the places: metres on the Earth, else units of the plane.
        val_fraction: Share of the squares to hold out, 0..1.
        seed: Determines which squares are held out.

    Returns:
        Per tile "train", "val", or None for a tile that would be trained on but overlaps a held-out one.
    """
    squares = [_square(place, sides[place.plane]) for place in places]
    ranks = {square: _hash_to_unit(seed, *square) for square in squares}
    ordered = sorted(ranks, key=ranks.get)
    count = sum(rank < val_fraction for rank in ranks.values())
    held_out = set(ordered[: _some_of(count, len(ordered), val_fraction)])
    return keep_apart(places, [square in held_out for square in squares])


def split_by_scene(
    scenes: Sequence[str], *, val_fraction: float, seed: int = 0, held_out: Sequence[str] = ()
) -> list[str]:
    """Hold out all tiles of some scenes (cities, acquisitions).

    Args:
        scenes: The scene of each tile.
        val_fraction: Share of the scenes to hold out, 0..1, rounded to whole scenes: at least one unless it is 0 or
            there is only one scene. Those with the lowest hash of seed and name are held out.
        seed: Determines which scenes are held out.
        held_out: Names of the scenes to hold out, instead of a share.

    Returns:
        Per tile "train" or "val".

    Raises:
        ConfigError: A scene in ``held_out`` does not exist.
    """
    names = sorted(set(scenes))
    if unknown := [name for name in held_out if name not in names]:
        raise ConfigError(f"There is no scene '{unknown[0]}' to hold out; the scenes are {', '.join(names)}.")
    if not held_out:
        # Python's round() rounds half to even.
        count = _some_of(math.floor(val_fraction * len(names) + 0.5), len(names), val_fraction)
        held_out = sorted(names, key=lambda name: _hash_to_unit(seed, name))[:count]
    chosen = set(held_out)
    return ["val" if scene in chosen else "train" for scene in scenes]


def keep_apart(places: Sequence[Footprint | None], held_out: Sequence[bool]) -> list[str | None]:
    """The split of each tile, such that training tiles share no ground with held-out ones.

    Args:
        places: The tiles, from one call of :func:`~mm_ovseg.raster.footprint.footprints`; None, a tile without
            location, overlaps no other.
        held_out: Whether each is held out.

    Returns:
        Per tile "train", "val", or None for a tile that would be trained on but overlaps a held-out one.
    """
    train, val = ([index for index, is_val in enumerate(held_out) if is_val == wanted] for wanted in (False, True))
    splits: list[str | None] = ["val" if is_val else "train" for is_val in held_out]
    pairs = overlaps([places[index] for index in train], [places[index] for index in val])
    for index in np.unique(pairs[:, 0]).tolist():
        splits[train[index]] = None
    return splits


@dataclass(frozen=True)
class HoldOut:
    """A split of pairs.

    Attributes:
        train, val: Keys, sorted; ``val`` is empty if all pairs belong together.
        how: The criterion of the split, for users.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    how: str


def hold_out(
    keys: Sequence[str],
    *,
    footprints: Sequence[Footprint | None],
    contents: Sequence[str],
    classes: Sequence[Mapping[int, int]],
    val_fraction: float,
    seed: int = 0,
) -> HoldOut:
    """Hold out adjacent pairs, so that few of them border on training pairs.

    Pairs that overlap on the ground, or show the same image, stay together. If all are located in one plane, the pairs
    furthest to one side (east, west, north or south) are held out; otherwise pairs with consecutive names, which are
    often cut from one scene. Among these choices, the best one has the fewest classes missing in training, then in the
    held-out pairs, then the most similar class shares in both. Pairs that share a sliver of ground with held-out ones
    are in neither.

    Args:
        keys: The pairs.
        footprints: Their footprints, from one call of :func:`~mm_ovseg.raster.footprint.footprints`.
        contents: A hash of each pair's image.
        classes: Class -> number of pixels, for each pair; empty for pairs without labels.
        val_fraction: Share of the pairs to hold out, 0..1; at least one is.
        seed: Breaks ties between equally good choices.
    """
    groups = _group(footprints, contents)
    splits: Sequence[str | None] = ["train"] * len(keys)
    how = "nothing held out: " + ("only one pair" if len(keys) == 1 else "all pairs show one place or image")
    if groups.max() > 0:
        orders, what = _orders(groups, keys, footprints)
        chosen = _best_run(
            groups, orders, classes, wanted=max(1, round(val_fraction * len(keys))), anywhere=what != "place", seed=seed
        )
        apart = keep_apart(footprints, np.isin(groups, chosen).tolist())
        if "train" in apart:
            splits = apart
            how = {"place": "by place on the ground", "name": "by name: neighbours stay together"}[what]
            if left_out := splits.count(None):
                how += f"; {left_out} left out, since they overlap held-out ones"
    train, val = (
        tuple(sorted(key for key, split in zip(keys, splits, strict=True) if split == name)) for name in SPLITS
    )
    return HoldOut(train, val, how)


def _some_of(count: int, total: int, val_fraction: float) -> int:
    """The number of squares or scenes to hold out: unless ``val_fraction`` is 0, at least one but not all."""
    return max(0, min(max(1, count), total - 1)) if val_fraction > 0 else 0


def _square(place: Footprint, side: float) -> tuple[str, int, int]:
    """The plane, row and column of the square that contains the centre of a place."""
    x, y = (round(value, 9) for value in place.centre)  # so that 359.9999999999999 becomes 360
    if place.plane != EARTH:
        return place.plane, math.floor(y / side), math.floor(x / side)
    row = math.floor(math.radians(y + 90) * EARTH_RADIUS / side)
    latitude = (row + 0.5) * side / EARTH_RADIUS - math.pi / 2  # of the middle of the row
    columns = max(1, round(2 * math.pi * EARTH_RADIUS * math.cos(latitude) / side))
    return place.plane, row, math.floor(x % 360 / 360 * columns) % columns


def _hash_to_unit(*parts: str | int) -> float:
    """A number in [0, 1) that depends on the parts only."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _group(footprints: Sequence[Footprint | None], contents: Sequence[str]) -> np.ndarray:
    """Group number of each pair, from 0, int (N,); the pairs of a group must stay together."""
    pairs = overlaps(footprints, footprints)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    pairs = pairs[overlap_shares(footprints, footprints, pairs) > SAME_PLACE_SHARE]
    first_of: dict[str, int] = {}
    same_image = [(first_of.setdefault(content, index), index) for index, content in enumerate(contents)]
    ends = np.concatenate([pairs, np.array(same_image, dtype=int).reshape(-1, 2)])
    graph = coo_matrix((np.ones(len(ends)), ends.T), shape=(len(contents),) * 2)
    return connected_components(graph, directed=False)[1]


def _orders(
    groups: np.ndarray, keys: Sequence[str], footprints: Sequence[Footprint | None]
) -> tuple[list[np.ndarray], str]:
    """The groups from one side to the other in each direction, and the criterion of the order: "place" or "name"."""
    if len({place and place.plane for place in footprints}) == 1 and footprints[0] is not None:
        sizes = np.bincount(groups)
        # The plane's x and y, in which the antimeridian is a line like any other.
        middles = [(place.outline.centroid.x, place.outline.centroid.y) for place in footprints]
        axes = [np.bincount(groups, weights=values) / sizes for values in zip(*middles, strict=True)]
        ranks = [np.argsort(values, kind="stable") for values in axes]
        return [order for rank in ranks for order in (rank, rank[::-1])], "place"
    by_name = sorted(range(len(keys)), key=lambda index: _natural(keys[index]))
    return [np.array(list(dict.fromkeys(groups[by_name].tolist())))], "name"


def _best_run(
    groups: np.ndarray,
    orders: Sequence[np.ndarray],
    classes: Sequence[Mapping[int, int]],
    *,
    wanted: int,
    anywhere: bool,
    seed: int,
) -> np.ndarray:
    """The groups to hold out: the run of about ``wanted`` pairs in one of the orders that splits classes best."""
    names = sorted({name for counts in classes for name in counts})
    pixels = np.zeros((groups.max() + 1, len(names)))  # of each class in each group
    for group, counts in zip(groups.tolist(), classes, strict=True):
        pixels[group] += [counts.get(name, 0) for name in names]
    sizes, runs, criteria = np.bincount(groups), [], []
    for order in orders:
        ends = np.cumsum(sizes[order])
        starts = np.arange(len(order) if anywhere else 1)
        before = ends[starts] - sizes[order][starts]
        longer = np.minimum(np.searchsorted(ends, before + wanted), len(order) - 1)
        shorter = np.maximum(longer - 1, starts)
        is_closer = np.abs(ends[longer] - before - wanted) < np.abs(ends[shorter] - before - wanted)
        lasts = np.where(is_closer, longer, shorter)
        lasts[0] = min(lasts[0], len(order) - 2)
        errors = np.abs(ends[lasts] - before - wanted)
        starts, lasts = starts[errors == errors.min()], lasts[errors == errors.min()]
        runs += [order[start : last + 1] for start, last in zip(starts, lasts, strict=True)]
        sums = np.concatenate([np.zeros((1, len(names))), np.cumsum(pixels[order], axis=0)])
        val = sums[lasts + 1] - sums[starts]
        criteria.append(_unlikeness(sums[-1] - val, val))
    found = np.concatenate(criteria)
    best = found[np.lexsort(found.T[::-1])[0]]
    equal = np.flatnonzero((found == best).all(axis=1))
    return runs[equal[seed % len(equal)]]


def _unlikeness(train: np.ndarray, val: np.ndarray) -> np.ndarray:
    """How badly choices split the classes, from their pixels (choices, classes): float (choices, 3), lower is better.

    The columns are classes missing in training, missing in those held out, and the difference of shares.
    """
    shares = [part / np.maximum(part.sum(axis=1, keepdims=True), 1) for part in (train, val)]
    difference = np.abs(shares[0] - shares[1]).sum(axis=1)
    return np.stack([(train == 0).sum(axis=1), (val == 0).sum(axis=1), difference], axis=1)


def _natural(key: str) -> list[tuple[bool, int, str]]:
    """Sort key that puts "a10" after "a9"."""
    return [(part.isdigit(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", key)]
