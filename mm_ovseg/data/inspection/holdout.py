"""Which pairs of a small dataset are held out: a corner of the map, or neighbours by name, never pairs at random."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform

from mm_ovseg.data.inspection.place import Footprint, group_by_place

__all__ = ["HoldOut", "hold_out"]

WGS84 = CRS.from_epsg(4326)


@dataclass(frozen=True)
class HoldOut:
    """A split.

    Attributes:
        train, val: Keys, sorted; ``val`` is empty where all pairs belong together.
        how: What it goes by, for people.
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
) -> HoldOut:
    """Hold out pairs that lie together, so that few of them border on training pairs.

    Pairs that overlap on the ground, or show the same image, stay together. Where all have a place on the ground, the
    pairs that lie furthest to one side (east, west, north or south) are held out; else pairs that follow each other by
    name, which are often cut from one scene. Among these choices that one is taken in which training lacks the fewest
    classes, then the held-out pairs, and then in which both have the most similar shares of the classes.

    Args:
        keys: The pairs.
        footprints: Where each lies.
        contents: A hash of each one's image.
        classes: Class -> number of pixels of each; empty where there are no labels.
        val_fraction: Share of the pairs to hold out, 0..1; at least one is.
    """
    groups = _group(footprints, contents)
    if len(groups) < 2:
        why = "only one pair" if len(keys) == 1 else "all pairs show one place or image"
        return HoldOut(tuple(sorted(keys)), (), f"nothing held out: {why}")
    orders, how = _orders(groups, keys, footprints)
    wanted = max(1, round(val_fraction * len(keys)))
    choices = [choice for order in orders for choice in _runs(order, wanted, anywhere=how != "place")]
    held_out = set(min(choices, key=lambda choice: _unlikeness(choice, classes)))
    train = tuple(sorted(key for index, key in enumerate(keys) if index not in held_out))
    val = tuple(sorted(keys[index] for index in held_out))
    return HoldOut(train, val, {"place": "by place on the ground", "name": "by name: neighbours stay together"}[how])


def _group(footprints: Sequence[Footprint | None], contents: Sequence[str]) -> list[list[int]]:
    """Indices that must stay together."""
    groups = np.array(group_by_place(footprints))
    first_of: dict[str, int] = {}
    for index, content in enumerate(contents):
        other = first_of.setdefault(content, index)
        groups[groups == groups[index]] = groups[other]
    return [np.flatnonzero(groups == group).tolist() for group in dict.fromkeys(groups.tolist())]


def _orders(
    groups: Sequence[Sequence[int]], keys: Sequence[str], footprints: Sequence[Footprint | None]
) -> tuple[list[list[Sequence[int]]], str]:
    """The groups from one side to the other in each direction, and what they were ordered by: "place" or "name"."""
    centres = [_centre(footprint) for footprint in footprints]
    if None not in centres:
        places = [np.mean([centres[index] for index in group], axis=0) for group in groups]
        orders = []
        for axis in (0, 1):
            order = [groups[rank] for rank in np.argsort([place[axis] for place in places], kind="stable")]
            orders += [order, order[::-1]]
        return orders, "place"
    return [sorted(groups, key=lambda group: min(_natural(keys[index]) for index in group))], "name"


def _centre(footprint: Footprint | None) -> tuple[float, float] | None:
    """Longitude and latitude; None where they are not known."""
    if footprint is None or footprint.crs is None:
        return None
    left, bottom, right, top = footprint.bounds
    try:
        (longitude,), (latitude,) = transform(footprint.crs, WGS84, [(left + right) / 2], [(bottom + top) / 2])
    except RasterioError:
        return None
    return (longitude, latitude) if np.isfinite((longitude, latitude)).all() else None


def _runs(order: Sequence[Sequence[int]], wanted: int, *, anywhere: bool) -> list[list[int]]:
    """Runs of neighbouring groups of about ``wanted`` pairs, from the start or anywhere, that leave some over."""
    runs = []
    for start in range(len(order) if anywhere else 1):
        run: list[int] = []
        for group in order[start:]:
            # One more group is taken if that comes closer to the number wanted.
            if run and abs(len(run) + len(group) - wanted) >= abs(len(run) - wanted):
                break
            run += group
        if len(run) < sum(map(len, order)):
            runs.append(run)
    shortest = min(abs(len(run) - wanted) for run in runs)
    return [run for run in runs if abs(len(run) - wanted) == shortest]


def _unlikeness(held_out: Sequence[int], classes: Sequence[Mapping[int, int]]) -> tuple[float, ...]:
    """How badly a choice splits the classes: missing in training, missing in those held out, difference of shares."""
    train: Counter[int] = Counter()
    val: Counter[int] = Counter()
    for index, counts in enumerate(classes):
        (val if index in held_out else train).update(counts)
    known = {*train, *val}
    shares = [np.array([part[name] for name in known], dtype=float) for part in (train, val)]
    difference = np.abs(np.subtract(*(share / max(share.sum(), 1.0) for share in shares))).sum()
    return len(known - train.keys()), len(known - val.keys()), float(difference)


def _natural(key: str) -> list[tuple[bool, int, str]]:
    """Sorts "a10" after "a9"."""
    return [(part.isdigit(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", key)]
