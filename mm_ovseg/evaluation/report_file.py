"""Reading evaluation files."""

import os
from dataclasses import dataclass

import numpy as np

from mm_ovseg.errors import DataError, VocabularyError
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
    """

    dataset: str
    classes: tuple[str, ...]
    unseen_classes: tuple[str, ...]
    confusion_matrix: np.ndarray

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
        if counts.shape != (len(classes),) * 2 or counts.dtype.kind not in "iu" or counts.min() < 0:
            raise ValueError("the confusion matrix does not hold a count for each pair of classes")
    except (ValueError, TypeError, KeyError, VocabularyError) as error:
        raise DataError(
            f"{path} is not an evaluation of semantic segmentation; give the sem_seg_evaluation.json written by "
            "mm-ovseg eval."
        ) from error
    return SegmentationReport(str(content.get("dataset", "")), classes, unseen, counts.astype(np.int64))
