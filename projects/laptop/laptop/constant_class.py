"""The scores of constant maps."""

import math
from collections.abc import Sequence

import numpy as np

from mm_ovseg.evaluation import segmentation_metrics

__all__ = ["constant_class_baseline"]


def constant_class_baseline(
    label_pixels: Sequence[int] | np.ndarray, classes: Sequence[str], unseen_classes: Sequence[str] = ()
) -> dict[str, float]:
    """Score the best constant map, which a model must beat to have learnt anything.

    Args:
        label_pixels: (T,) ground-truth pixels of each class, the sum over axis 1 of a confusion matrix.
        classes: the T class names.
        unseen_classes: those without labels in training.

    Returns:
        mIoU, mIoU-seen and mIoU-unseen in percent, each the highest of any class; nan for a mean over no classes.
    """
    counts = np.asarray(label_pixels)
    best = dict.fromkeys(("mIoU", "mIoU-seen", "mIoU-unseen"), math.nan)
    for index in range(len(classes)):
        confusion_matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
        confusion_matrix[:, index] = counts
        metrics = segmentation_metrics(confusion_matrix, classes, unseen_classes)
        best = {name: float(np.fmax(value, metrics[name])) for name, value in best.items()}
    return best
