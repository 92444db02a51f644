import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from mm_ovseg.errors import VocabularyError
from mm_ovseg.evaluation import (
    count_pixels,
    format_results_table,
    segmentation_metrics,
)


@given(
    confusion_matrix=hypothesis_numpy.arrays(np.int64, (6, 6), elements=st.integers(0, 10**9)),
    absent=st.sets(st.integers(0, 5)),
    unseen=st.sets(st.integers(0, 5)),
)
def test_the_weighted_mean_of_seen_and_unseen_is_the_miou(confusion_matrix, absent, unseen):
    confusion_matrix[list(absent)] = 0
    classes = [f"class {index}" for index in range(6)]
    unseen_classes = [classes[index] for index in unseen]
    metrics = segmentation_metrics(confusion_matrix, classes, unseen_classes)
    valid = [name for name in classes if not math.isnan(metrics[f"IoU-{name}"])]
    assert valid == [name for name, row in zip(classes, confusion_matrix, strict=True) if row.any()]
    num_unseen = len(set(valid) & set(unseen_classes))
    num_seen = len(valid) - num_unseen
    total = 0.0
    for count, name in [(num_seen, "mIoU-seen"), (num_unseen, "mIoU-unseen")]:
        assert math.isnan(metrics[name]) == (count == 0)
        total += count * metrics[name] if count else 0.0
    if valid:
        assert len(valid) * metrics["mIoU"] == pytest.approx(total, rel=1e-12, abs=1e-12)
    else:
        assert math.isnan(metrics["mIoU"])


def test_metrics_of_a_matrix_worked_out_by_hand():
    confusion_matrix = np.array([[6, 2, 0], [1, 3, 0], [4, 0, 0]])
    metrics = segmentation_metrics(confusion_matrix, ["a", "b", "c"], ["b"])
    a, b, c = 100 * 6 / 13, 100 * 3 / 6, 0
    assert metrics == pytest.approx(
        {
            "mIoU": (a + b + c) / 3,
            "mIoU-seen": (a + c) / 2,
            "mIoU-unseen": b,
            "hIoU": 2 / (2 / (a + c) + 1 / b),
            "fwIoU": (8 * a + 4 * b + 4 * c) / 16,
            "mACC": (75 + 75 + 0) / 3,
            "pACC": 900 / 16,
            "IoU-a": a,
            "IoU-b": b,
            "IoU-c": c,
            "ACC-a": 75,
            "ACC-b": 75,
            "ACC-c": 0,
        }
    )


def test_harmonic_mean_of_two_zeros_is_zero_and_without_unseen_classes_is_nan():
    wrong = np.array([[0, 5], [5, 0]])
    assert segmentation_metrics(wrong, ["a", "b"], ["b"])["hIoU"] == 0
    metrics = segmentation_metrics(wrong, ["a", "b"])
    assert math.isnan(metrics["hIoU"]) and math.isnan(metrics["mIoU-unseen"])
    assert metrics["mIoU"] == metrics["mIoU-seen"] == 0


def test_an_unseen_class_that_is_no_class_is_named():
    with pytest.raises(VocabularyError, match="'B'.*'a', 'b'"):
        segmentation_metrics(np.eye(2, dtype=np.int64), ["a", "b"], ["B"])


def test_table_lists_classes_and_summary():
    metrics = segmentation_metrics(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]), ["1.50", "b", "c"], ["b"])
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in format_results_table(metrics, ["1.50", "b", "c"], ["b"]).splitlines()
    ]
    assert cells[0] == ["class", "seen/unseen", "IoU", "ACC"]
    assert cells[2] == ["1.50", "seen", "66.67", "75.00"]
    assert cells[3] == ["b", "unseen", "50.00", "75.00"]
    assert cells[4] == ["c", "seen", "n/a", "n/a"]
    assert cells[5] == ["mIoU, mACC", "all", "58.33", "75.00"]
    assert [row[0] for row in cells[6:]] == ["mIoU-seen", "mIoU-unseen", "hIoU", "fwIoU, pACC"]


def test_pixels_are_counted_by_truth_and_prediction():
    label = np.array([[0, 0, 1], [2, 255, 1]], dtype=np.uint8)
    prediction = np.array([[0, 1, 1], [0, 2, 1]], dtype=np.uint8)
    assert count_pixels(label, prediction, 3, 255).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_none_of_the_classes_is_a_miss_of_the_true_class_and_no_false_alarm():
    label = np.array([[0, 0, 0, 1], [254, 254, 255, 1]], np.uint8)
    prediction = np.array([[0, 254, 254, 1], [0, 254, 1, 254]], np.uint8)
    counts = count_pixels(label, prediction, 2, 255, has_none=True)
    assert counts.tolist() == [[1, 0, 2], [0, 1, 1], [1, 0, 1]]
    metrics = segmentation_metrics(counts, ["a", "b"], ["b"])
    assert metrics["IoU-a"] == pytest.approx(100 / 4)  # one hit, two misses, one false alarm on a pixel of neither
    assert metrics["IoU-b"] == metrics["mIoU-unseen"] == pytest.approx(100 / 2)
    assert metrics["pACC"] == pytest.approx(100 * 2 / 5) and metrics["mIoU"] == pytest.approx(75 / 2)
