import numpy as np
import pytest
import torch

from mm_ovseg.errors import DataError
from mm_ovseg.evaluation.calibration_fit import BIN_WIDTH, BINS, CalibrationCounts, count_logits, f1_scores, fit_logit


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def test_the_fit_finds_the_numbers_that_made_the_labels():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, 200_000)
    positive = generator.random(len(logits)) < sigmoid(0.6 * logits - 0.8)
    scale, bias = fit_logit(count_logits(sigmoid(logits), positive))
    assert scale == pytest.approx(0.6, abs=0.02) and bias == pytest.approx(-0.8, abs=0.03)


def test_the_fit_is_finite_where_scores_separate_and_fails_where_they_do_not_help():
    logits = np.linspace(-5, 5, 1000)
    scale, bias = fit_logit(count_logits(sigmoid(logits), logits > 0))
    assert 1 < scale < 1000 and np.isfinite(bias)
    with pytest.raises(DataError, match="higher ones are not more often right"):
        fit_logit(count_logits(sigmoid(logits), logits < 0))


def test_scores_of_0_and_1_are_in_the_last_bins():
    counts = count_logits(np.array([0.0, 1.0, 0.5]), np.array([False, True, True]))
    assert counts.sum() == 3 and counts[0].argmax() < 10 and np.flatnonzero(counts[1]).max() > BINS - 10


def test_f1_is_that_of_a_plain_computation():
    generator = np.random.default_rng(1)
    positive = generator.random(500) < 0.3
    scores = sigmoid(generator.normal(0, 1, 500) + 2 * positive)
    f1 = f1_scores(count_logits(scores, positive))
    border = (f1.argmax() - BINS / 2) * BIN_WIDTH
    taken = np.log(scores / (1 - scores)) >= border
    expected = 2 * (taken & positive).sum() / (taken.sum() + positive.sum())
    assert f1.max() == pytest.approx(expected)
    thresholds = [2 * (positive & (scores >= t)).sum() / ((scores >= t).sum() + positive.sum()) for t in scores]
    assert f1.max() == pytest.approx(max(thresholds), abs=0.01)


def make_pixels(generator):
    """A label map (40, 50) of seen classes 0 and 1 and ignored pixels, and scores as of add."""
    label = generator.choice([0, 1, 255], (40, 50))
    wanted = np.choose(np.minimum(label, 2), [0, 2, 1])
    logits = generator.normal(-1, 1, (5, 40, 50))
    np.put_along_axis(logits, wanted[None], np.take_along_axis(logits, wanted[None], 0) + 1.5, 0)
    seen = generator.normal(-2, 1, (2, 40, 50)) + 3 * np.stack([label == 0, label == 1])
    return label, *(torch.from_numpy(sigmoid(values)) for values in (logits[:3], seen, logits))


def test_a_calibration_of_pairs():
    generator = np.random.default_rng(2)
    counts, pixels = CalibrationCounts(["city", "road", "water"], [0, 2]), [make_pixels(generator) for _ in range(5)]
    for of_image in pixels:
        counts.add(*of_image)
    assert counts.pixels == sum((label != 255).sum() for label, *_ in pixels)
    calibration = counts.fit()
    before, after = counts.calibration_errors(calibration)
    assert calibration.scale > 0 and after < 3 < before and calibration.min_score == 0
    assert list(calibration.min_scores) == ["city", "water"]

    # With its minimum, a class asked for alone has the F1 that was counted, and no other minimum has a higher one.
    label, seen = (np.stack([of_image[place] for of_image in pixels]) for place in (0, 2))
    for index, name in enumerate(("city", "water")):
        scores = [calibration(torch.from_numpy(seen[:, place])).numpy()[label != 255] for place in (index, 1 - index)]

        def f1(minimum, own=scores[0], other=scores[1], of_class=label[label != 255] == index):
            mapped = (own >= other) & (own >= minimum)
            return 200 * (mapped & of_class).sum() / (mapped.sum() + of_class.sum())

        assert f1(calibration.min_scores[name]) == pytest.approx(counts.f1()[name], abs=0.01) and counts.f1()[name] > 85
        assert counts.f1()[name] >= max(map(f1, np.linspace(0, 1, 50))) - 0.05

    # With the margin, the absent names win in 3% of the pixels.
    absent = np.stack([of_image[3] for of_image in pixels])
    strengths = np.log(absent / (1 - absent)) * calibration.scale
    lead = (strengths[:, 3:].max(axis=1) - strengths[:, [0, 2]].max(axis=1))[label != 255]
    assert (lead > calibration.margin).mean() == pytest.approx(0.03, abs=0.002) and (lead > 0).mean() > 0.1


def test_what_unlabelled_pixels_score_changes_nothing():
    calibrations = []
    for change in (0, 0.3):
        label, *answers = make_pixels(np.random.default_rng(3))
        for scores in answers:
            scores[:, label == 255] = change
        counts = CalibrationCounts(["city", "road", "water"], [0, 2])
        counts.add(label, *answers)
        calibrations.append(counts.fit())
    assert calibrations[0] == calibrations[1]


def test_a_class_without_labels_has_a_minimum_of_0_and_no_label_is_an_error():
    label, *answers = make_pixels(np.random.default_rng(4))
    counts = CalibrationCounts(["city", "road", "water"], [0, 2])
    counts.add(np.where(label == 1, 255, label), *answers)
    minimums = counts.fit().min_scores  # names the classes that training saw
    assert list(minimums) == ["city", "water"] and minimums["city"] > 0 == minimums["water"]
    assert list(counts.f1()) == ["city"]
    with pytest.raises(DataError, match="label of a seen class"):
        CalibrationCounts(["city"], [0]).fit()
