"""Semantic-segmentation scores over all, seen and unseen classes."""

import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from mm_ovseg.data.raster import read_label
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.visualization.confusion_matrix import draw_confusion_matrix

__all__ = [
    "SeenUnseenSemSegEvaluator",
    "constant_class_baseline",
    "format_results_table",
    "segmentation_metrics",
]

logger = logging.getLogger(__name__)


def segmentation_metrics(
    confusion_matrix: np.ndarray, classes: Sequence[str], unseen_classes: Sequence[str] = ()
) -> dict[str, float]:
    """Compute every score from pixel counts.

    A class without a ground-truth pixel has no score (nan) and takes no part in any mean, as in Detectron2. (Its
    release 0.6 differs in one case: once such a class is predicted somewhere, it lowers the mIoU as an IoU of 0.)
    Over the n classes that have a score, ``n * mIoU = n_seen * mIoU-seen + n_unseen * mIoU-unseen``.

    Args:
        confusion_matrix: (T, T) pixel counts, ground truth by prediction, without ignored pixels.
        classes: the T class names.
        unseen_classes: those of them whose labels training did not see.

    Returns:
        Percentages: mIoU, mIoU-seen, mIoU-unseen, hIoU (harmonic mean of those two; 0 where both are 0), fwIoU (IoU
        weighted by ground-truth pixels), mACC, pACC, IoU-<class>, ACC-<class>. A mean over no class is nan: without
        unseen classes, mIoU-unseen and hIoU are.

    Raises:
        VocabularyError: an unseen class is not among the classes.
    """
    unseen = _unseen_mask(classes, unseen_classes)
    true_positive = confusion_matrix.diagonal().astype(np.float64)
    label_pixels = confusion_matrix.sum(axis=1).astype(np.float64)
    predicted_pixels = confusion_matrix.sum(axis=0).astype(np.float64)

    present = label_pixels > 0
    iou = np.full(len(classes), np.nan)
    accuracy = np.full(len(classes), np.nan)
    union = label_pixels + predicted_pixels - true_positive
    iou[present] = 100 * true_positive[present] / union[present]
    accuracy[present] = 100 * true_positive[present] / label_pixels[present]

    seen_miou, unseen_miou = _mean(iou[present & ~unseen]), _mean(iou[present & unseen])
    total = label_pixels.sum()
    metrics = {
        "mIoU": _mean(iou[present]),
        "mIoU-seen": seen_miou,
        "mIoU-unseen": unseen_miou,
        "hIoU": _harmonic_mean(seen_miou, unseen_miou),
        "fwIoU": float((iou[present] * label_pixels[present]).sum() / total) if total else math.nan,
        "mACC": _mean(accuracy[present]),
        "pACC": float(100 * true_positive.sum() / total) if total else math.nan,
    }
    metrics |= {f"IoU-{name}": float(value) for name, value in zip(classes, iou, strict=True)}
    metrics |= {f"ACC-{name}": float(value) for name, value in zip(classes, accuracy, strict=True)}
    return metrics


def constant_class_baseline(
    label_pixels: Sequence[int] | np.ndarray, classes: Sequence[str], unseen_classes: Sequence[str] = ()
) -> dict[str, float]:
    """Score the best map that gives every pixel one and the same class: what a model must beat to have learnt anything.

    Args:
        label_pixels: (T,) ground-truth pixels of each class; of a confusion matrix, its sum over axis 1.
        classes: the T class names.
        unseen_classes: those of them whose labels training did not see.

    Returns:
        mIoU, mIoU-seen and mIoU-unseen in percent, each the highest that any one class reaches; nan where the mean is
        over no class.
    """
    counts = np.asarray(label_pixels)
    best = dict.fromkeys(("mIoU", "mIoU-seen", "mIoU-unseen"), math.nan)
    for index in range(len(classes)):
        confusion_matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
        confusion_matrix[:, index] = counts
        metrics = segmentation_metrics(confusion_matrix, classes, unseen_classes)
        best = {name: float(np.fmax(value, metrics[name])) for name, value in best.items()}
    return best


def format_results_table(
    results: Mapping[str, float], classes: Sequence[str], unseen_classes: Sequence[str] = ()
) -> str:
    """Lay out scores as a text table: one row per class, then the summary.

    Args:
        results: what :func:`segmentation_metrics` returns, or ``evaluate()["sem_seg"]``.
        classes: class names in the order of their rows.
        unseen_classes: those of them whose labels training did not see.
    """

    def percent(name: str) -> str:
        return "n/a" if math.isnan(results[name]) else f"{results[name]:.2f}"

    unseen = _unseen_mask(classes, unseen_classes)
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
    # Without numparse, a class whose name is a number stays as it is written.
    return tabulate(
        rows,
        headers=["class", "seen/unseen", "IoU", "ACC"],
        tablefmt="github",
        disable_numparse=True,
        colalign=("left", "left", "right", "right"),
    )


class SeenUnseenSemSegEvaluator(DatasetEvaluator):
    """Evaluate semantic segmentation over all classes, and over seen and unseen classes apart.

    Pixel counts are integers and are summed over processes, so that several give exactly the scores of one.
    :func:`segmentation_metrics` says what the scores are.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | os.PathLike | None = None,
        unseen_classes: Sequence[str] | None = None,
    ) -> None:
        """Read the dataset's size and, from its metadata, classes, unseen classes, ignore_label and label_values.

        Args:
            dataset_name: a registered dataset with labels.
            distributed: sum the counts of all processes; False: score what this process has seen.
            output_dir: where ``sem_seg_evaluation.json`` and ``confusion_matrix.png`` go; None: nowhere.
            unseen_classes: instead of those of the metadata.

        Raises:
            DataError: no dataset of that name is registered.
            VocabularyError: an unseen class is not among the classes.
        """
        if dataset_name not in DatasetCatalog.list():
            raise DataError(
                f"Dataset '{dataset_name}' is not registered; declare it in a file of DATASETS.FILES or call "
                "register_rgb_sar_dataset."
            )
        metadata = MetadataCatalog.get(dataset_name)
        self._dataset_name = dataset_name
        self._dataset_size = len(DatasetCatalog.get(dataset_name))
        self._distributed = distributed
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._classes = list(metadata.stuff_classes)
        if unseen_classes is None:
            unseen_classes = metadata.get("unseen_classes", [])
        self._unseen_classes = list(unseen_classes)
        self._ignore_label = metadata.ignore_label
        self._label_values = metadata.get("label_values", None)
        _unseen_mask(self._classes, self._unseen_classes)
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        num_classes = len(self._classes)
        self._confusion_matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
        self._num_images = 0

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Count the pixels of some images.

        Args:
            inputs: dataset dicts with ``file_name`` and ``sem_seg_file_name``.
            outputs: for each, ``sem_seg``: (T, H, W) scores; the highest of a pixel is its class.

        Raises:
            DataError: an image has no label map, or one that cannot be read, has another size than the prediction, or
                holds a value that no class has.
            VocabularyError: the number of scores is not that of the dataset's classes.
        """
        for dataset_dict, output in zip(inputs, outputs, strict=True):
            scores = output["sem_seg"]
            if len(scores) != len(self._classes):
                raise VocabularyError(
                    f"The model scores {len(scores)} classes but dataset '{self._dataset_name}' has "
                    f"{len(self._classes)}; give the model the dataset's classes with set_vocabulary."
                )
            prediction = scores.argmax(dim=0).cpu().numpy()  # (H, W)
            label = self._read_label(dataset_dict, prediction.shape)
            counted = label != self._ignore_label
            num_classes = len(self._classes)
            pairs = num_classes * label[counted].astype(np.int64) + prediction[counted]
            counts = np.bincount(pairs, minlength=num_classes**2)
            self._confusion_matrix += counts.reshape(num_classes, num_classes)
            self._num_images += 1

    def evaluate(self) -> "OrderedDict[str, dict[str, float]] | None":
        """Score everything that was processed, log the table and write the output files.

        Returns:
            ``{"sem_seg": scores}`` with the scores of :func:`segmentation_metrics`, ``num_images`` (processed) and
            ``num_skipped`` (the rest of the dataset); None in other processes than the main one.

        Raises:
            DataError: not one labelled pixel was processed, or the output folder cannot be written to.
        """
        confusion_matrix, num_images = self._confusion_matrix, self._num_images
        if self._distributed:
            matrices, counts = zip(*comm.all_gather((confusion_matrix, num_images)), strict=True)
            confusion_matrix, num_images = np.sum(matrices, axis=0), sum(counts)
        # Before the other processes leave: all of them have to stop, not the main one alone.
        if not confusion_matrix.any():
            raise DataError(
                f"Dataset '{self._dataset_name}' cannot be scored: {num_images} of its {self._dataset_size} images "
                "were processed and none has a labelled pixel; look for warnings about skipped files and check the "
                "label maps and ignore_label."
            )
        if self._distributed and not comm.is_main_process():
            return None

        scores = segmentation_metrics(confusion_matrix, self._classes, self._unseen_classes)
        scores["num_images"] = num_images
        scores["num_skipped"] = self._dataset_size - num_images
        logger.info(
            "Dataset '%s', %d images, %d skipped, in percent:\n%s",
            self._dataset_name,
            num_images,
            scores["num_skipped"],
            format_results_table(scores, self._classes, self._unseen_classes),
        )
        if self._output_dir is not None:
            self._write(scores, confusion_matrix)
        return OrderedDict(sem_seg=scores)

    def _read_label(self, dataset_dict: Mapping, prediction_shape: tuple[int, int]) -> np.ndarray:
        path = dataset_dict.get("sem_seg_file_name")
        if path is None:
            raise DataError(
                f"{dataset_dict['file_name']} has no label map; evaluate on a dataset registered with labels."
            )
        label = read_label(
            path,
            num_classes=len(self._classes),
            ignore_label=self._ignore_label,
            label_values=self._label_values,
        )
        if label.shape != prediction_shape:
            raise DataError(
                f"{path} has {label.shape[0]} x {label.shape[1]} pixels (height x width) but the prediction for "
                f"{dataset_dict['file_name']} has {prediction_shape[0]} x {prediction_shape[1]}; "
                "bring the label map onto the image's grid."
            )
        return label

    def _write(self, scores: Mapping[str, float], confusion_matrix: np.ndarray) -> None:
        report = {
            "dataset": self._dataset_name,
            "classes": self._classes,
            "unseen_classes": self._unseen_classes,
            # JSON knows no nan.
            "results": {name: None if math.isnan(value) else value for name, value in scores.items()},
            "confusion_matrix": confusion_matrix.tolist(),
        }
        path = self._output_dir / "sem_seg_evaluation.json"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(f"{path} cannot be written ({error.strerror}); choose another output folder.") from error
        finally:
            if temporary.exists():
                temporary.unlink()
        draw_confusion_matrix(
            self._output_dir / "confusion_matrix.png", confusion_matrix, self._classes, self._unseen_classes
        )


def _unseen_mask(classes: Sequence[str], unseen_classes: Sequence[str]) -> np.ndarray:
    """(T,) bool, True where a class is unseen."""
    unknown = [name for name in unseen_classes if name not in classes]
    if unknown:
        raise VocabularyError(
            f"Unseen classes {', '.join(map(repr, unknown))} are not among the classes "
            f"{', '.join(map(repr, classes))}; name unseen classes exactly as the classes are."
        )
    return np.isin(np.arange(len(classes)), [classes.index(name) for name in unseen_classes])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan


def _harmonic_mean(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second != 0 else 0.0
