"""Are confidences probabilities, and do they tell right pixels from wrong ones?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mm_ovseg.decision import Calibration
from mm_ovseg.evaluation.metrics import unseen_mask

__all__ = [
    "CONFIDENCE_BINS",
    "RELIABILITY_BINS",
    "ConfidenceTest",
    "area_under_risk_coverage",
    "confidence_bins",
    "count_confidences",
    "expected_calibration_error",
    "reliability",
    "risk_coverage",
]

RELIABILITY_BINS = 15  # of equal width
CONFIDENCE_BINS = 100 * RELIABILITY_BINS  # of the histograms: a confidence is rounded by at most 1/3000


def count_confidences(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Histograms (2, 1500) int64 of the confidences (N,), 0..1, of wrong and of right pixels, bool (N,)."""
    bins = CONFIDENCE_BINS * right.astype(np.int64) + confidence_bins(confidence)
    return np.bincount(bins, minlength=2 * CONFIDENCE_BINS).reshape(2, CONFIDENCE_BINS)


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, 0..1, of any shape: int64, below :data:`CONFIDENCE_BINS`."""
    return np.minimum((np.nan_to_num(confidence) * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)


def reliability(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The reliability diagram of histograms (2, 1500): pixels, mean confidence and accuracy of 15 bins of equal width.

    Confidence and accuracy are 0..1, and nan in a bin without pixels.
    """
    centers = (np.arange(CONFIDENCE_BINS) + 0.5) / CONFIDENCE_BINS
    wrong, right, confidence = (
        values.reshape(RELIABILITY_BINS, -1).sum(axis=1) for values in (*counts, counts.sum(axis=0) * centers)
    )
    pixels = wrong + right
    with np.errstate(invalid="ignore"):
        return {"pixels": pixels, "confidence": confidence / pixels, "accuracy": right / pixels}


def expected_calibration_error(counts: np.ndarray) -> float:
    """Mean difference of confidence and accuracy over the pixels of histograms (2, 1500), in percent.

    The confidence is that of the mapped class ("top-label"), in 15 bins of equal width, as in Guo et al. 2017, "On
    Calibration of Modern Neural Networks". nan without pixels.
    """
    bins = reliability(counts)
    pixels, difference = bins["pixels"], np.abs(bins["confidence"] - bins["accuracy"])
    return float(100 * np.nansum(pixels * difference) / pixels.sum()) if pixels.any() else math.nan


def risk_coverage(counts: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Share of wrong pixels, 0..1, among a share of the most confident ones, of histograms (2, 1500).

    Pixels of a bin are in random order.

    Args:
        counts: with at least one pixel.
        coverage: shares, above 0 and at most 1.
    """
    wrong, pixels = (np.concatenate([[0], values[::-1].cumsum()]) for values in (counts[0], counts.sum(axis=0)))
    kept = coverage * pixels[-1]
    return np.interp(kept, pixels, wrong) / kept


def area_under_risk_coverage(counts: np.ndarray) -> float:
    """Mean of :func:`risk_coverage` over all coverages, in percent; nan without pixels. 0 is the best.

    Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks". Confidences in random order give the
    share of wrong pixels.
    """
    wrong, pixels = counts[0][::-1].astype(np.float64), counts.sum(axis=0)[::-1].astype(np.float64)
    filled = pixels > 0
    wrong, pixels = wrong[filled], pixels[filled]
    if not len(pixels):
        return math.nan
    rate = wrong / pixels
    wrong_before, before = wrong.cumsum() - wrong, pixels.cumsum() - pixels
    # The integral of (wrong_before + rate * k) / (before + k) over a bin, k from 0 to its pixels.
    excess = wrong_before - rate * before
    logarithm = np.log1p(np.divide(pixels, before, out=np.zeros_like(pixels), where=before > 0))
    return float(100 * (rate * pixels + excess * logarithm).sum() / pixels.sum())


class ConfidenceTest:
    """Counts the confidences of right and wrong pixels, for seen and unseen ground truth.

    Attributes:
        counts: int64 (raw and calibrated, seen and unseen, wrong and right, 1500); the first alone if there is no
            calibration.
    """

    name = "confidence"
    vocabularies = ()

    def __init__(
        self, classes: Sequence[str], unseen_classes: Sequence[str], calibration: Calibration | None = None
    ) -> None:
        self._unseen = unseen_mask(classes, unseen_classes)
        self._calibration = calibration
        self.counts = np.zeros((1 if calibration is None else 2, 2, 2, CONFIDENCE_BINS), np.int64)

    def add(self, label: np.ndarray, counted: np.ndarray, output: Mapping[str, torch.Tensor]) -> None:
        """Count the pixels of one image; arguments as of :class:`~mm_ovseg.evaluation.pixel_test.PixelTest`."""
        scores = output["sem_seg"]
        label = label[counted]
        right = scores.argmax(dim=0).cpu().numpy()[counted] == label
        unseen = self._unseen[label]
        raw = scores.amax(dim=0).float()
        for kind, confidence in zip(self.counts, self._kinds(raw), strict=True):
            confidence = confidence.cpu().numpy()[counted]
            for group, inside in zip(kind, (~unseen, unseen), strict=True):
                group += count_confidences(confidence[inside], right[inside])

    def results(self, counts: np.ndarray) -> dict[str, float]:
        """Percentages: ECE and AURC of what users get, of all, seen and unseen ground truth; ECE-raw uncalibrated."""
        shown = _groups(counts[-1])
        results = {f"ECE{group}": expected_calibration_error(of_group) for group, of_group in shown.items()}
        if self._calibration is not None:
            raw = _groups(counts[0])
            results |= {f"ECE-raw{group}": expected_calibration_error(of_group) for group, of_group in raw.items()}
        return results | {f"AURC{group}": area_under_risk_coverage(of_group) for group, of_group in shown.items()}

    def curves(self, counts: np.ndarray) -> dict[str, Any]:
        """What :func:`~mm_ovseg.visualization.reliability.draw_reliability` draws, in plain data."""
        return {
            "calibrated": self._calibration is not None,
            **{group.removeprefix("-") or "all": _curves(of_group) for group, of_group in _groups(counts[-1]).items()},
        }

    def _kinds(self, raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raw = raw.clamp(0, 1)  # of some models, scores are above 1
        return (raw,) if self._calibration is None else (raw, self._calibration(raw))


def _groups(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Suffix of the scores -> histograms (2, 1500), from those of seen and unseen ground truth."""
    seen, unseen = counts
    return {"": seen + unseen, "-seen": seen, "-unseen": unseen}


def _curves(counts: np.ndarray) -> dict[str, list[float | None]] | None:
    """Reliability, and the risk at coverages of 1 to 100 percent; None without pixels."""
    if not counts.any():
        return None
    curves = reliability(counts) | {"risk": risk_coverage(counts, np.arange(1, 101) / 100)}
    # JSON has no nan.
    return {name: [None if math.isnan(x) else x for x in values.tolist()] for name, values in curves.items()}
