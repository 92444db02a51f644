"""Reading evaluation files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.evaluation.confidence import RELIABILITY_BINS
from mm_ovseg.evaluation.metrics import segmentation_metrics
from mm_ovseg.plain_data import parse_json, read_text
from mm_ovseg.vocabulary import select_unseen, validate_class_names

__all__ = ["SegmentationReport", "read_segmentation_report"]


@dataclass(frozen=True, eq=False)
class SegmentationReport:
    """The file of :class:`~mm_ovseg.evaluation.SeenUnseenSemSegEvaluator`.

    Attributes:
        dataset: its name.
        classes: T class names.
        unseen_classes: those of them whose labels training did not see.
        confusion_matrix: (T, T) int64 pixel counts, ground truth by prediction.
        confidence_curves: "all", "seen" and "unseen" -> the arrays of a figure of confidences, or None without such
            pixels; itself None in files that have none.
    """

    dataset: str
    classes: tuple[str, ...]
    unseen_classes: tuple[str, ...]
    confusion_matrix: np.ndarray
    confidence_curves: dict[str, dict[str, np.ndarray] | None] | None = None

    @property
    def scores(self) -> dict[str, float]:
        """See :func:`~mm_ovseg.evaluation.segmentation_metrics`."""
        return segmentation_metrics(self.confusion_matrix, self.classes, self.unseen_classes)


def read_segmentation_report(path: str | os.PathLike) -> SegmentationReport:
    """Read a ``sem_seg_evaluation.json``.

    Raises:
        DataError: the file is missing, or is not such an evaluation.
    """
    text = read_text(path)
    try:
        content = parse_json(text)
        classes = validate_class_names(content["classes"])
        unseen = select_unseen(classes, content["unseen_classes"])
        counts = np.array(content["confusion_matrix"])
        curves = _read_curves(content.get("confidence_curves"))
        if counts.shape != (len(classes),) * 2 or counts.dtype.kind not in "iu" or counts.min() < 0:
            raise ValueError("the confusion matrix does not hold a count for each pair of classes")
    except (ValueError, TypeError, KeyError, VocabularyError) as error:
        raise DataError(
            f"{path} is not an evaluation of semantic segmentation; give the sem_seg_evaluation.json written by "
            "mm-ovseg eval."
        ) from error
    return SegmentationReport(str(content.get("dataset", "")), classes, unseen, counts.astype(np.int64), curves)


def _read_curves(content: Mapping[str, Any] | None) -> dict[str, dict[str, np.ndarray] | None] | None:
    if content is None:
        return None
    lengths = {"pixels": RELIABILITY_BINS, "confidence": RELIABILITY_BINS, "accuracy": RELIABILITY_BINS, "risk": 100}
    curves: dict[str, dict[str, np.ndarray] | None] = {}
    for group in ("all", "seen", "unseen"):
        of_group = content[group]
        curves[group] = of_group and {name: np.array(of_group[name], np.float64) for name in lengths}
        if any(values.shape != (lengths[name],) for name, values in (curves[group] or {}).items()):
            raise ValueError("a curve of confidences has another number of points")
    return curves
