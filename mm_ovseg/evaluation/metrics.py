"""Semantic-segmentation scores over all, seen and unseen classes, from pixel counts."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import tabulate

from mm_ovseg.decision import NONE_CLASS
from mm_ovseg.errors import VocabularyError

__all__ = ["count_pixels", "format_results_table", "intersection_over_union", "segmentation_metrics", "unseen_mask"]


def count_pixels(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_label: int, *, has_none: bool = False
) -> np.ndarray:
    """The confusion matrix of one map.

    Args:
        label: (H, W) class indices, ``ignore_label`` where ignored.
        prediction: (H, W) class indices.
        num_classes: T.
        ignore_label: value of ignored pixels in ``label``.
        has_none: both may also hold 254 for none of the classes, which the last row and column count.

    Returns:
        (T, T) int64 pixel counts, ground truth by prediction; (T + 1, T + 1) with ``has_none``.
    """
    counted = label != ignore_label
    label, prediction = label[counted].astype(np.int64), prediction[counted].astype(np.int64)
    size = num_classes
    if has_none:
        label, prediction = (np.where(values == NONE_CLASS, size, values) for values in (label, prediction))
        size += 1
    return np.bincount(size * label + prediction, minlength=size**2).reshape(size, size)


def segmentation_metrics(
    confusion_matrix: np.ndarray, classes: Sequence[str], unseen_classes: Sequence[str] = ()
) -> dict[str, float]:
    """Compute every score from pixel counts.

    A class without a ground-truth pixel has no score (nan) and is left out of the means, as in Detectron2. (In release
    0.6, such a class counts as an IoU of 0 in the mIoU if it is predicted anywhere.) Over the n classes that have a
    score, ``n * mIoU = n_seen * mIoU-seen + n_unseen * mIoU-unseen``.

    Args:
        confusion_matrix: (T, T) pixel counts, ground truth by prediction, without ignored pixels. Of (T + 1, T + 1),
            the last row and column are "none": false alarms and misses of the classes.
        classes: the T class names.
        unseen_classes: those of them whose labels training did not see.

    Returns:
        Percentages: mIoU, mIoU-seen, mIoU-unseen, hIoU (harmonic mean of those two; 0 where both are 0), fwIoU (IoU
        weighted by ground-truth pixels), mACC, pACC, IoU-<class>, ACC-<class>. Means over no classes are nan, such
        as mIoU-unseen and hIoU without unseen classes.

    Raises:
        VocabularyError: an unseen class is not among the classes.
    """
    true_positive = confusion_matrix.diagonal()[: len(classes)].astype(np.float64)
    label_pixels = confusion_matrix.sum(axis=1)[: len(classes)].astype(np.float64)
    map_pixels = confusion_matrix.sum(axis=0)[: len(classes)].astype(np.float64)
    ious = intersection_over_union(true_positive, label_pixels, map_pixels, classes, unseen_classes)
    iou = np.array([ious[f"IoU-{name}"] for name in classes])
    present = label_pixels > 0
    accuracy = np.where(present, 100 * true_positive, np.nan) / np.maximum(label_pixels, 1)
    both = ious["mIoU-seen"] + ious["mIoU-unseen"]
    total = label_pixels.sum()
    return {
        **ious,
        "hIoU": 2 * ious["mIoU-seen"] * ious["mIoU-unseen"] / both if both != 0 else 0.0,
        "fwIoU": float((iou[present] * label_pixels[present]).sum() / total) if total else math.nan,
        "mACC": _mean(accuracy[present]),
        "pACC": float(100 * true_positive.sum() / total) if total else math.nan,
        **{f"ACC-{name}": float(value) for name, value in zip(classes, accuracy, strict=True)},
    }


def intersection_over_union(
    both: np.ndarray,
    label_pixels: np.ndarray,
    map_pixels: np.ndarray,
    classes: Sequence[str],
    unseen_classes: Sequence[str] = (),
) -> dict[str, float]:
    """IoU in percent, of each class and the means over those with ground truth.

    Args:
        both: (T,) float64 pixels of each class in the ground truth that are mapped as this class.
        label_pixels, map_pixels: (T,) float64 pixels of each class in the ground truth, and in the map.
        classes: the T class names.
        unseen_classes: those of them whose labels training did not see.

    Returns:
        mIoU, mIoU-seen, mIoU-unseen, IoU-<class>; nan without ground truth.

    Raises:
        VocabularyError: an unseen class is not among the classes.
    """
    unseen = unseen_mask(classes, unseen_classes)
    present = label_pixels > 0
    iou = np.where(present, 100 * both, np.nan) / np.maximum(label_pixels + map_pixels - both, 1)
    means = {"mIoU": present, "mIoU-seen": present & ~unseen, "mIoU-unseen": present & unseen}
    return {
        **{name: _mean(iou[chosen]) for name, chosen in means.items()},
        **{f"IoU-{name}": float(value) for name, value in zip(classes, iou, strict=True)},
    }


def format_results_table(
    results: Mapping[str, float],
    classes: Sequence[str],
    unseen_classes: Sequence[str] = (),
    alone: Mapping[str, float] | None = None,
) -> str:
    """Format scores as a text table: one row per class, then the summary.

    Args:
        results: what :func:`segmentation_metrics` returns, or ``evaluate()["sem_seg"]``.
        classes: class names in the order of their rows.
        unseen_classes: those of them whose labels training did not see.
        alone: IoU of each class asked for alone, and its means, for a column beside the IoU of all together.
    """

    def percent(name: str, results: Mapping[str, float] = results) -> str:
        return "n/a" if math.isnan(results[name]) else f"{results[name]:.2f}"

    unseen = unseen_mask(classes, unseen_classes)
    rows = [
        [name, "unseen" if is_unseen else "seen", percent(f"IoU-{name}"), percent(f"ACC-{name}")]
        for name, is_unseen in zip(classes, unseen, strict=True)
    ]
    rows += [
        ["mIoU, mACC", "all", percent("mIoU"), percent("mACC")],
        ["mIoU-seen", "seen", percent("mIoU-seen"), ""],
        ["mIoU-unseen", "unseen", percent("mIoU-unseen"), ""],
        ["hIoU", "seen, unseen", percent("hIoU"), ""],
        ["fwIoU, pACC", "all", percent("fwIoU"), percent("pACC")],
    ]
    headers = ["class", "seen/unseen", "IoU", "ACC"]
    if alone is not None:
        keys = [*(f"IoU-{name}" for name in classes), "mIoU", "mIoU-seen", "mIoU-unseen"]
        headers.append("IoU asked for alone")
        for row, key in zip(rows, keys, strict=False):
            row.append(percent(key, alone))
    # Numbers are not parsed, so that class names that are numbers stay unchanged.
    alignment = ("left", "left", *("right" for _ in headers[2:]))
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True, colalign=alignment)


def unseen_mask(classes: Sequence[str], unseen_classes: Sequence[str]) -> np.ndarray:
    """(T,) bool, True where a class is unseen.

    Raises:
        VocabularyError: an unseen class is not among the classes.
    """
    unknown = [name for name in unseen_classes if name not in classes]
    if unknown:
        raise VocabularyError(
            f"Unseen classes {', '.join(map(repr, unknown))} are not among the classes "
            f"{', '.join(map(repr, classes))}; spell unseen classes exactly like the classes."
        )
    return np.array([name in unseen_classes for name in classes], dtype=bool)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
