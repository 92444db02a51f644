"""How many points each stratum gets, and which of its pixels."""

from collections.abc import Iterable, Sequence

import numpy as np

from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import ConfigError
from mm_ovseg.randomness import derived_seed

__all__ = ["allocate", "draw_pixels"]


def allocate(pixels: Sequence[int], total: int, minimum: int) -> list[int]:
    """Share points among strata in proportion to their pixels, but with a minimum for rare ones.

    As Olofsson et al. 2014 advise (5.1.2): rare strata get the minimum, and the others share the rest. No stratum gets
    more points than it has pixels.

    Args:
        pixels: pixels of each stratum, at least 1.
        total: number of points.
        minimum: the minimum of a stratum.

    Returns:
        Points of each stratum; they sum up to ``total``.

    Raises:
        ConfigError: there are too few points for the minimum, or more than pixels.
    """
    sizes = np.asarray(pixels, dtype=np.int64)
    minimums = np.minimum(minimum, sizes)
    if not minimums.sum() <= total <= sizes.sum():
        raise ConfigError(
            f"--n is {total}, but {minimum} points in each of {len(sizes)} strata are {minimums.sum()}, and the map "
            f"has {sizes.sum()} pixels; give a number between, or a smaller --min-per-stratum."
        )
    at_minimum = np.zeros(len(sizes), dtype=bool)
    while True:  # in whole numbers, since what is exactly the minimum must not be less
        rest = total - int(minimums[at_minimum].sum())
        others = int(sizes[~at_minimum].sum())
        too_few = ~at_minimum & (rest * sizes < minimums * others)
        if not too_few.any():
            break
        at_minimum |= too_few
    points = np.where(at_minimum, minimums, rest * sizes // max(others, 1))
    remainders = np.where(at_minimum, -1, rest * sizes % max(others, 1))
    points[np.argsort(-remainders, kind="stable")[: total - points.sum()]] += 1
    return points.tolist()


def draw_pixels(
    strips: Iterable[tuple[int, np.ndarray]], pixels: Sequence[int], points: Sequence[int], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw pixels of each stratum at random, without replacement.

    Args:
        strips: the first row of each strip of a raster, and its strata, uint8 (rows, W). How the raster is cut into
            strips does not matter.
        pixels: number of pixels of each value 0..254 in the raster.
        points: number of points of each value.
        seed: the same seed gives the same pixels.

    Returns:
        Rows, columns, and strata (N,), int64, in random order, which tells nothing of the strata.
    """
    ranks = {}  # of the pixels of a stratum in reading order
    for value in np.flatnonzero(points).tolist():
        generator = np.random.default_rng(derived_seed(seed, "sample", value))
        ranks[value] = np.sort(generator.choice(int(pixels[value]), int(points[value]), replace=False))
    seen = np.zeros(NODATA_CLASS, np.int64)
    found = []
    for top, strata in strips:
        counts = np.bincount(strata.ravel(), minlength=NODATA_CLASS)[:NODATA_CLASS]
        for value, of_value in ranks.items():
            first, last = np.searchsorted(of_value, (seen[value], seen[value] + counts[value]))
            if first < last:
                places = np.flatnonzero(strata.ravel() == value)[of_value[first:last] - seen[value]]
                rows, columns = np.divmod(places, strata.shape[1])
                found.append(np.stack([rows + top, columns, np.full(len(places), value)]))
        seen += counts
    rows, columns, strata = np.concatenate(found, axis=1)
    # From one order, however the raster was cut.
    order = np.lexsort((columns, rows))[np.random.default_rng(derived_seed(seed, "order")).permutation(len(rows))]
    return rows[order], columns[order], strata[order]
