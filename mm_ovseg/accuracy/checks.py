"""Whether labelled points are a probability sample: the one that was drawn, or at least like one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from mm_ovseg.accuracy.population import BLOCKS_PER_SIDE, Census
from mm_ovseg.accuracy.sample import Design
from mm_ovseg.errors import DataError

__all__ = ["check_as_drawn", "check_distinct", "check_numbers", "check_spread", "check_training"]

MAX_SHOWN = 5
MIN_EXPECTED = 5  # points in a bin, for the chi-square test
# Of a test, below which a sample is refused; a few tests are made of each.
MIN_PROBABILITY = 1e-6


def check_distinct(path: Path, rows: np.ndarray, columns: np.ndarray) -> None:
    """Check that no two points are in one pixel.

    Raises:
        DataError: two are.
    """
    _, first, counts = np.unique(np.stack([rows, columns]), axis=1, return_index=True, return_counts=True)
    if (counts > 1).any():
        index = int(first[counts > 1].min())
        others = np.flatnonzero((rows == rows[index]) & (columns == columns[index])) + 1
        raise DataError(
            f"{path}: the points {' and '.join(map(str, others[:MAX_SHOWN]))} are in one pixel (row {rows[index]}, "
            f"column {columns[index]}); keep one point for each pixel of the sample."
        )


def check_as_drawn(
    path: Path, rows: np.ndarray, columns: np.ndarray, design: Design, census: Census, strata_path: Path
) -> None:
    """Check that points are those of a design, all of them and no others, and that its strata are still the same.

    Args:
        path: the points' file.
        rows, columns: (N,), their distinct pixels.
        design, census: the design, and the strata that it should be of.
        strata_path: file of those strata.

    Raises:
        DataError: they are not.
    """
    if design.sha256 != census.sha256:
        raise DataError(
            f"The strata of {strata_path} are not those that the sample was drawn from ({design.strata_file}, as it "
            "was then); give that raster as --strata, and as --map one with classes at the same pixels."
        )
    drawn = {pixel: number for number, pixel in enumerate(zip(design.rows, design.columns, strict=True), start=1)}
    given = list(zip(rows, columns, strict=True))
    if strange := [number for number, pixel in enumerate(given, start=1) if pixel not in drawn]:
        raise DataError(
            f"{path} has {len(strange)} points that were not drawn, the first of them is number {strange[0]} in the "
            "file; points may be neither moved nor added."
        )
    if missing := sorted(drawn[pixel] for pixel in drawn.keys() - set(given)):
        shown = ", ".join(map(str, missing[:MAX_SHOWN])) + (", ..." if len(missing) > MAX_SHOWN else "")
        raise DataError(
            f"{path} lacks {len(missing)} of the {len(drawn)} points that were drawn (id {shown}); a part of a sample "
            "is not one: put them back."
        )


def check_numbers(path: Path, points: np.ndarray, census: Census) -> None:
    """Check that each stratum has the two points that a variance needs, or as many as it has pixels.

    Raises:
        DataError: one has not.
    """
    for name, count, pixels in zip(census.names, points.tolist(), census.pixels.tolist(), strict=True):
        if count < min(2, pixels):
            held = f"{count} labelled point{'s' * (count != 1)}"
            raise DataError(
                f"{path} has {held} in the stratum '{name}' of {pixels} pixels, and its variance needs 2; label more "
                "there, or draw a sample with mm-ovseg sample."
            )


def check_spread(path: Path, strata: np.ndarray, blocks: np.ndarray, census: Census) -> None:
    """Check that points are spread over the pixels of their strata as a random sample is, by a chi-square test.

    Each stratum is tested by its own points, and the map by all of them, which also sees few points in each stratum.

    Args:
        path: the points' file.
        strata: (N,), the stratum of each point, 0..H-1.
        blocks: (N,), the block that it is in.
        census: the population.

    Raises:
        DataError: they are not.
    """
    observed = np.zeros(census.blocks.shape)
    np.add.at(observed, (strata, blocks), 1)
    expected = census.blocks * (observed.sum(axis=1) / census.pixels)[:, np.newaxis]
    tests = [(f" in the stratum '{name}'", *rows) for name, *rows in zip(census.names, observed, expected, strict=True)]
    for where, *counts in [("", observed.sum(axis=0), expected.sum(axis=0)), *tests]:
        for order in _orders():
            seen, likely = (np.bincount(_bins(counts[1][order]), part[order]) for part in counts)
            statistic = float(((seen - likely) ** 2 / likely).sum())
            if stats.chi2.sf(statistic, len(likely) - 1) < MIN_PROBABILITY:
                fullest = int(np.argmax(seen - likely))
                raise DataError(
                    f"{path} is not a random sample: of {int(seen.sum())} points{where}, {int(seen[fullest])} are in "
                    f"one part of the map where about {likely[fullest]:.0f} would be; draw one with mm-ovseg sample, "
                    "and label all of it."
                )


def check_training(path: Path, strata: np.ndarray, in_training: np.ndarray, census: Census) -> None:
    """Check that points do not come from the training area, where the model has seen the answers.

    Args:
        path: the points' file.
        strata: (N,), the stratum of each point, 0..H-1.
        in_training: bool (N,), whether it is in the training area.
        census: the population, with its pixels in that area.

    Raises:
        DataError: more of them are in it than in a random sample.
    """
    # A sum of draws with unequal probabilities is above their mean no more often than one with equal ones (Hoeffding).
    probability = float((census.in_training / census.pixels)[strata].mean())
    count = int(in_training.sum())
    if stats.binom.sf(count - 1, len(strata), probability) < MIN_PROBABILITY:
        raise DataError(
            f"{path}: {count} of {len(strata)} points are in the training area, where a random sample has about "
            f"{probability * len(strata):.0f}; accuracy where the model was trained says nothing of the map: draw a "
            "sample with mm-ovseg sample."
        )


def _orders() -> list[np.ndarray]:
    """The blocks of a map row by row, column by column, and in Z-order, in which squares of blocks lie together."""
    down, across = (index.ravel() for index in np.indices((BLOCKS_PER_SIDE, BLOCKS_PER_SIDE)))
    bits = range(BLOCKS_PER_SIDE.bit_length() - 1)
    z = sum((down >> bit & 1) << (2 * bit + 1) | (across >> bit & 1) << (2 * bit) for bit in bits)
    return [np.argsort(key, kind="stable") for key in (down, across, z)]


def _bins(expected: Sequence[float]) -> np.ndarray:
    """Join consecutive blocks (B,) until enough points are expected in each bin: the bin of each block."""
    bins = np.zeros(len(expected), np.int64)
    number, held = 0, 0.0
    for block, value in enumerate(expected):
        if held >= MIN_EXPECTED:
            number, held = number + 1, 0.0
        bins[block] = number
        held += value
    if held < MIN_EXPECTED:  # the rest joins the bin before it
        bins[bins == number] = max(number - 1, 0)
    return bins
