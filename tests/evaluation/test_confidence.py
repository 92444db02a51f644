import math

import numpy as np
import pytest
import torch

from mm_ovseg.decision import Calibration
from mm_ovseg.evaluation.confidence import (
    ConfidenceTest,
    area_under_risk_coverage,
    count_confidences,
    expected_calibration_error,
    reliability,
    risk_coverage,
)


def draw_pixels(generator, count=20_000):
    """Confidences, and whether the pixels are right, which grows less than the confidence."""
    confidence = generator.random(count)
    return confidence, generator.random(count) < 0.2 + 0.5 * confidence


def test_calibration_error_and_diagram_are_those_of_a_plain_computation():
    confidence, right = draw_pixels(np.random.default_rng(0))
    counts = count_confidences(confidence, right)
    bins = np.minimum((confidence * 15).astype(int), 14)
    error = sum((bins == k).sum() * abs(confidence[bins == k].mean() - right[bins == k].mean()) for k in range(15))
    assert expected_calibration_error(counts) == pytest.approx(100 * error / len(confidence), abs=0.04)
    diagram = reliability(counts)
    assert diagram["pixels"].tolist() == np.bincount(bins, minlength=15).tolist()
    assert diagram["accuracy"] == pytest.approx([right[bins == k].mean() for k in range(15)])
    assert diagram["confidence"] == pytest.approx([confidence[bins == k].mean() for k in range(15)], abs=4e-4)


def test_risk_and_its_area_are_those_of_sorted_pixels():
    confidence, right = draw_pixels(np.random.default_rng(2))
    counts = count_confidences(confidence, right)
    wrong = ~right[np.argsort(-confidence, kind="stable")]
    risk = wrong.cumsum() / np.arange(1, len(wrong) + 1)
    assert area_under_risk_coverage(counts) == pytest.approx(100 * risk.mean(), abs=0.1)
    coverage = np.array([0.1, 0.5, 1.0])
    expected = risk[(coverage * len(risk)).astype(int) - 1]
    assert risk_coverage(counts, coverage) == pytest.approx(expected, abs=0.005)


def test_the_area_of_a_perfect_order_and_of_no_order():
    right = np.arange(1000) < 700
    assert area_under_risk_coverage(count_confidences(np.full(1000, 0.5), right)) == pytest.approx(30)
    # Wrong pixels come last: the integral of 1 - 0.7 / c from 0.7 to 1.
    best = 100 * (0.3 + 0.7 * math.log(0.7))
    assert area_under_risk_coverage(count_confidences(np.where(right, 0.9, 0.1), right)) == pytest.approx(best)
    assert area_under_risk_coverage(count_confidences(np.ones(9), np.ones(9, bool))) == 0
    empty = count_confidences(np.zeros(0), np.zeros(0, bool))
    assert math.isnan(area_under_risk_coverage(empty)) and math.isnan(expected_calibration_error(empty))


def test_confidences_at_the_ends_and_beyond():
    counts = count_confidences(np.array([0.0, 1.0, np.nan]), np.array([True, True, False]))
    assert counts[1, 0] == counts[1, -1] == counts[0, 0] == 1


def test_raw_and_calibrated_of_seen_and_unseen_ground_truth():
    label = np.array([[0, 1, 1, 255]])
    scores = torch.tensor([[[0.8, 0.6, 0.1, 0.9]], [[0.1, 0.2, 1.7, 0.1]]])  # of some models, above 1
    calibration = Calibration(scale=0.0001, bias=math.log(0.7 / 0.3))
    test = ConfidenceTest(["a", "b"], ["b"], calibration)
    for _ in range(2):
        test.add(label, label != 255, {"sem_seg": scores})
    results = test.results(test.counts)
    assert results["ECE-raw-seen"] == pytest.approx(20, abs=0.1)  # 0.8, and always right
    assert results["ECE-raw-unseen"] == pytest.approx((60 + 0) / 2, abs=0.1)  # 0.6, wrong; and 1, right
    assert results["ECE"] == pytest.approx(abs(70 - 200 / 3), abs=0.1)
    assert results["ECE-unseen"] == pytest.approx(20, abs=0.1)
    assert results["AURC-seen"] == 0 and results["AURC-unseen"] > 0
    plain = ConfidenceTest(["a", "b"], ["b"])
    plain.add(label, label != 255, {"sem_seg": scores})
    assert plain.results(plain.counts)["ECE-seen"] == pytest.approx(results["ECE-raw-seen"])
    assert "ECE-raw" not in plain.results(plain.counts)
    assert test.curves(test.counts)["calibrated"] and sum(test.curves(test.counts)["seen"]["pixels"]) == 2
