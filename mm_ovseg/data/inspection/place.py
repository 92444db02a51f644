"""Where files lie on the ground, and which of them show the same place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds

from mm_ovseg.raster import RasterInfo

__all__ = ["Footprint", "footprint", "group_by_place", "overlaps", "pixel_size"]

# Share of the smaller box from which on two files show the same place. Neighbours may touch by a rounding error; boxes
# in two reference systems are turned against each other, so that those of neighbours overlap at the corners.
SAME_SYSTEM_SHARE = 0.01
OTHER_SYSTEM_SHARE = 0.1
METRES_TOLERANCE = 0.01  # relative


@dataclass(frozen=True)
class Footprint:
    """The box that a file covers.

    Attributes:
        crs: Its reference system; None where only a world file says where it lies.
        bounds: Left, bottom, right, top in the system's units.
    """

    crs: CRS | None
    bounds: tuple[float, float, float, float]


def footprint(info: RasterInfo | None) -> Footprint | None:
    """The box that a file covers; None where its header does not say."""
    if info is None or info.transform is None:
        return None
    corners = array_bounds(info.height, info.width, info.transform)
    left, right = sorted((corners[0], corners[2]))
    bottom, top = sorted((corners[1], corners[3]))
    return Footprint(info.crs, (left, bottom, right, top))


def overlaps(first: Sequence[Footprint | None], second: Sequence[Footprint | None]) -> Iterator[tuple[int, int, float]]:
    """Which boxes of two lists show the same place.

    Yields:
        (index in the first, index in the second, share of the smaller box that both cover, 0..1).
    """
    for crs in dict.fromkeys(box.crs for box in first if box is not None):
        indexes = [index for index, box in enumerate(first) if box is not None and box.crs == crs]
        others = [(index, bounds) for index, box in enumerate(second) if (bounds := _bounds_in(box, crs)) is not None]
        if not others:
            continue
        bounds = np.array([bounds for _, bounds in others])  # (N, 4)
        least = np.array([SAME_SYSTEM_SHARE if second[index].crs == crs else OTHER_SYSTEM_SHARE for index, _ in others])
        for index in indexes:
            shares = _shares(np.array(first[index].bounds), bounds)
            for place in np.flatnonzero(shares > least):
                yield index, others[place][0], float(shares[place])


def group_by_place(boxes: Sequence[Footprint | None]) -> list[int]:
    """Number boxes so that those that overlap, directly or through others, have one number."""
    groups = list(range(len(boxes)))

    def root(index: int) -> int:
        while groups[index] != index:
            groups[index] = groups[groups[index]]
            index = groups[index]
        return index

    for first, second, _ in overlaps(boxes, boxes):
        groups[root(first)] = root(second)
    return [root(index) for index in range(len(boxes))]


def pixel_size(infos: Sequence[RasterInfo]) -> float | None:
    """Metres per pixel, to three digits; None where the files do not say or differ."""
    sizes = []
    for info in infos:
        if info.transform is None or info.crs is None or not info.crs.is_projected:
            return None
        sizes.append(abs(info.transform.determinant) ** 0.5 * info.crs.linear_units_factor[1])
    if not sizes or max(sizes) > min(sizes) * (1 + METRES_TOLERANCE):
        return None
    return float(f"{np.mean(sizes):.3g}")


def _bounds_in(box: Footprint | None, crs: CRS | None) -> tuple[float, float, float, float] | None:
    """A box in another reference system; None where it has no place there."""
    if box is None or box.crs == crs:
        return None if box is None else box.bounds
    if box.crs is None or crs is None:
        return None
    try:
        bounds = transform_bounds(box.crs, crs, *box.bounds)
    except RasterioError:  # too far from where the system holds
        return None
    return bounds if np.isfinite(bounds).all() else None


def _shares(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of boxes (N, 4), the share that each has in common with one box (4,), of the smaller of the two."""
    sides = np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2])
    common = np.clip(sides, 0, None).prod(axis=1)
    smaller = np.minimum((others[:, 2:] - others[:, :2]).prod(axis=1), (box[2:] - box[:2]).prod())
    return common / np.maximum(smaller, np.finfo(float).tiny)
