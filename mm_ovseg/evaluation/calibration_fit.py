"""Fitting a calibration on labelled pairs, from histograms of the logits of scores."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit

from mm_ovseg.decision import EPSILON, Calibration
from mm_ovseg.errors import DataError
from mm_ovseg.evaluation.confidence import CONFIDENCE_BINS, confidence_bins, expected_calibration_error

__all__ = ["CalibrationCounts", "count_logits", "f1_scores", "fit_logit", "logits"]

BIN_WIDTH = 0.01
BINS = 2 * math.ceil(math.log(1 / EPSILON) / BIN_WIDTH)  # of logits, which a calibration clips
# Of the pixels; on other pairs, of which some show classes never seen, the share is higher.
MAX_ABSENT = 0.03
CENTERS = (np.arange(BINS) + 0.5 - BINS / 2) * BIN_WIDTH


class CalibrationCounts:
    """Counts scores of labelled pixels, and fits a calibration.

    * Scale and bias make the score of the mapped class, among all names of the dataset, the probability that it is
      right. (A fit of all scores, each class against the rest, gives a larger error of the map's confidence.)
    * The minimum of a class makes its F1 largest where it is asked for alone, against the other seen classes.
    * The margin lets names of what is not there win over the seen classes in 3% of the pixels.

    There is no minimum for names never seen: their scores among the seen classes tell less than their rank.

    Args:
        names: T names of the dataset's classes, as the model is asked for them.
        seen: the S indices of those whose labels are used.
    """

    def __init__(self, names: Sequence[str], seen: Sequence[int]) -> None:
        self._seen = np.array(seen)
        self._names = [names[index] for index in seen]
        self._mapped = np.zeros((2, BINS), np.int64)  # wrong and right pixels, by the score of the mapped class
        self._alone = np.zeros((len(seen), 2, BINS), np.int64)  # other and its own pixels, by the score of each class
        self._excess = np.zeros(2 * BINS, np.int64)  # by the logit of the best absent name, less that of the best seen

    @property
    def pixels(self) -> int:
        """Number of labelled pixels."""
        return int(self._mapped.sum())

    def add(self, label: np.ndarray, scores: torch.Tensor, seen: torch.Tensor, absent: torch.Tensor) -> None:
        """Count the pixels of one image.

        Args:
            label: (H, W), an index into the seen names or, where the label is not used, any larger number.
            scores: (T, H, W) of all names together.
            seen: (S, H, W) of the seen names together.
            absent: (T + N, H, W) of all names and N of what is not there.
        """
        counted = label < len(self._seen)
        label = label[counted]
        # (names, pixels)
        scores, seen, absent = (values.cpu().numpy()[:, counted] for values in (scores, seen, absent))
        self._mapped += count_logits(scores.max(axis=0), scores.argmax(axis=0) == self._seen[label])
        best = seen.max(axis=0)
        for index, of_class in enumerate(seen):
            wins = np.where(of_class == best, of_class, 0)  # where another class wins, no minimum is low enough
            self._alone[index] += count_logits(wins, label == index)
        if len(absent) > len(scores):
            excess = logits(absent[len(scores) :].max(axis=0)) - logits(absent[self._seen].max(axis=0))
            bins = np.floor(excess / BIN_WIDTH + BINS).astype(np.int64).clip(0, 2 * BINS - 1)
            self._excess += np.bincount(bins, minlength=2 * BINS)

    def fit(self) -> Calibration:
        """Fit the calibration.

        Raises:
            DataError: no pixel is labelled, or see :func:`fit_logit`.
        """
        if not self.pixels:
            raise DataError("No pixel of these pairs has a label of a seen class, which a calibration is fitted on.")
        scale, bias = fit_logit(self._mapped)
        borders = expit(scale * (CENTERS - BIN_WIDTH / 2) + bias)
        minimums = dict.fromkeys(self._names, 0.0)
        minimums |= {name: float(borders[f1.argmax()]) for name, f1 in self._f1_scores().items()}
        too_many = self._excess[::-1].cumsum()[::-1] > MAX_ABSENT * self._excess.sum()  # pixels from each bin on
        margin = max(0, int(too_many.sum()) - BINS) * BIN_WIDTH
        return Calibration(scale, bias, min_scores=minimums, margin=scale * margin)

    def f1(self) -> dict[str, float]:
        """F1 in percent of each labelled class asked for alone, with its minimum score."""
        return {name: float(100 * f1.max()) for name, f1 in self._f1_scores().items()}

    def calibration_errors(self, calibration: Calibration) -> tuple[float, ...]:
        """ECE of the counted pixels in percent, before and after."""
        raw, calibrated = expit(CENTERS), expit(calibration.scale * CENTERS + calibration.bias)
        return tuple(expected_calibration_error(_rebin(self._mapped, scores)) for scores in (raw, calibrated))

    def _f1_scores(self) -> dict[str, np.ndarray]:
        """F1 (BINS,) of each class that has labelled pixels."""
        alone = zip(self._names, self._alone, strict=True)
        return {name: f1_scores(counts) for name, counts in alone if counts[1].any()}


def logits(scores: np.ndarray) -> np.ndarray:
    """Logits, float64, of scores, 0..1, of any shape, clipped as by a calibration."""
    scores = np.clip(scores.astype(np.float64), EPSILON, 1 - EPSILON)
    return np.log(scores / (1 - scores))


def count_logits(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Histograms (2, BINS) int64 of the logits of scores (N,), 0..1, of negatives and of positives, bool (N,)."""
    bins = np.floor(logits(scores) / BIN_WIDTH + BINS / 2).astype(np.int64).clip(0, BINS - 1)
    return np.bincount(BINS * positive.astype(np.int64) + bins, minlength=2 * BINS).reshape(2, BINS)


def fit_logit(counts: np.ndarray) -> tuple[float, float]:
    """Scale and bias that make sigmoid(scale * logit + bias) the probability of a positive.

    Logistic regression by maximum likelihood, with the targets of Platt 1999, "Probabilistic Outputs for Support Vector
    Machines", which keep the numbers finite where a score separates all positives.

    Args:
        counts: histograms (2, BINS) of negatives and positives.

    Raises:
        DataError: higher scores are not more often positive, so that no scale above 0 fits.
    """
    negatives, positives = counts.sum(axis=1)
    weight = counts.sum(axis=0) / counts.sum()
    target = (counts[0] / (negatives + 2) + counts[1] * (positives + 1) / (positives + 2)) / counts.sum()

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        logits = numbers[0] * CENTERS + numbers[1]
        slope = weight * expit(logits) - target
        return (weight * np.logaddexp(0, logits) - target * logits).sum(), np.array([slope @ CENTERS, slope.sum()])

    scale, bias = minimize(loss, (1.0, 0.0), jac=True, method="BFGS").x.tolist()
    if not scale > 0:
        raise DataError(
            "These scores cannot be calibrated, since higher ones are not more often right; check that the weights, "
            "the config and the labels belong together."
        )
    return scale, bias


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """F1, 0..1, (BINS,), of taking the pixels from each bin on for positive: mean of precision and recall, harmonic.

    Args:
        counts: histograms (2, BINS) of negatives and positives, with at least one positive. Those of the first bin are
            never taken.
    """
    negatives, positives = np.pad(counts[:, 1:], ((0, 0), (1, 0)))[:, ::-1].cumsum(axis=1)[:, ::-1]
    return 2 * positives / (positives + negatives + counts[1].sum())


def _rebin(counts: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Histograms (2, BINS) of logits as those of confidences, (BINS,) of which belong to the bins."""
    bins = confidence_bins(confidence)
    return np.stack([np.bincount(bins, of_kind, minlength=CONFIDENCE_BINS) for of_kind in counts])
