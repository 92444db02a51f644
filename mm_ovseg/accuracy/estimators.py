"""Stratified estimators of accuracy and area, each with its standard error.

One formula, the combined ratio estimator of Stehman 2014 (equations 25 and 28), gives all of them. Where the strata are
the map's classes, it is that of Olofsson et al. 2014 (equations 1 to 11).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Z_95", "Accuracy", "Estimate", "StratifiedSample", "estimate_accuracy"]

Z_95 = 1.96  # standard errors on each side of an estimate, in a confidence interval of 95%


@dataclass(frozen=True)
class Estimate:
    """An estimate: a share, 0..1, and its standard error; both NaN where it is not defined."""

    value: float
    standard_error: float

    @property
    def half_width(self) -> float:
        """Half of the confidence interval of 95%."""
        return Z_95 * self.standard_error


@dataclass(frozen=True, eq=False)
class StratifiedSample:
    """A simple random sample of the pixels of each stratum.

    Attributes:
        strata: int (N,), the stratum of each point, 0..H-1.
        mapped, reference: int (N,), its class in the map and on the ground, 0..K-1.
        sizes: float (N,), area of its pixel, in any unit.
        pixels: int (H,), pixels of each stratum.
        areas: float (H,), area of each stratum, in any unit.

    Each stratum needs two points, or all of its pixels.
    """

    strata: np.ndarray
    mapped: np.ndarray
    reference: np.ndarray
    sizes: np.ndarray
    pixels: np.ndarray
    areas: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """Points of each stratum, int (H,)."""
        return np.bincount(self.strata, minlength=len(self.areas))


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Estimates for K classes.

    Attributes:
        counts: int (K, K), points by class in the map (rows) and on the ground (columns).
        shares: float (K, K), the same as estimated shares of the area.
        overall: share of the area that is mapped right.
        users: of the area mapped as a class, the share that is this class.
        producers: of the area of a class, the share that is mapped as this class.
        areas: share of the area that is this class on the ground.
    """

    counts: np.ndarray
    shares: np.ndarray
    overall: Estimate
    users: Sequence[Estimate]
    producers: Sequence[Estimate]
    areas: Sequence[Estimate]


def estimate_accuracy(sample: StratifiedSample, num_classes: int) -> Accuracy:
    """The error matrix and what follows from it."""
    everything = np.ones(len(sample.strata))
    right = sample.mapped == sample.reference
    mapped = [sample.mapped == index for index in range(num_classes)]
    truly = [sample.reference == index for index in range(num_classes)]
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (sample.mapped, sample.reference), 1)
    per_point = sample.areas / sample.areas.sum() / (_means_by_point(sample, sample.sizes) * sample.points)
    shares = np.zeros((num_classes, num_classes))
    np.add.at(shares, (sample.mapped, sample.reference), per_point[sample.strata] * sample.sizes)
    return Accuracy(
        counts=counts,
        shares=shares,
        overall=estimate_ratio(sample, right, everything),
        users=[estimate_ratio(sample, right & of_class, of_class) for of_class in mapped],
        producers=[estimate_ratio(sample, right & of_class, of_class) for of_class in truly],
        areas=[estimate_ratio(sample, of_class, everything) for of_class in truly],
    )


def estimate_ratio(sample: StratifiedSample, part: np.ndarray, whole: np.ndarray) -> Estimate:
    """The share that one area is of another.

    Args:
        part, whole: (N,), 1 where a point is in the area, else 0.
    """
    part_area, whole_area = (float(sample.areas @ _means(sample, indicator)) for indicator in (part, whole))
    if whole_area == 0:
        return Estimate(np.nan, np.nan)
    ratio = part_area / whole_area
    residuals = part - ratio * whole
    # Pixels of one stratum may differ in size; a mean by area is itself a ratio, so its residuals count.
    relative = sample.sizes / _means_by_point(sample, sample.sizes)[sample.strata]
    residuals = relative * (residuals - _means(sample, residuals)[sample.strata])
    points = sample.points
    squares = np.bincount(sample.strata, residuals**2, minlength=len(points))
    known = points == sample.pixels  # every pixel was looked at
    variances = np.where(known, 0, squares / (np.where(known, 2, points) - 1) / np.maximum(points, 1))
    return Estimate(ratio, float(np.sqrt(sample.areas**2 @ variances)) / whole_area)


def _means(sample: StratifiedSample, values: np.ndarray) -> np.ndarray:
    """Means (H,) by area of values of the points (N,)."""
    return _means_by_point(sample, sample.sizes * values) / _means_by_point(sample, sample.sizes)


def _means_by_point(sample: StratifiedSample, values: np.ndarray) -> np.ndarray:
    return np.bincount(sample.strata, values, minlength=len(sample.areas)) / sample.points
