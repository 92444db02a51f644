"""Detectron2's evaluator of semantic segmentation, with scores over all, seen and unseen classes."""

import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from mm_ovseg.data.catalog import label_scheme
from mm_ovseg.data.registration import check_dataset
from mm_ovseg.decision import Decision
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.evaluation.metrics import count_pixels, format_results_table, segmentation_metrics, unseen_mask
from mm_ovseg.files import complete_file
from mm_ovseg.raster import RasterSource, read_label
from mm_ovseg.visualization.confusion_matrix import draw_confusion_matrix

__all__ = ["SeenUnseenSemSegEvaluator"]

logger = logging.getLogger(__name__)


class SeenUnseenSemSegEvaluator(DatasetEvaluator):
    """Evaluate semantic segmentation over all classes, and separately over seen and unseen classes.

    Pixel counts are integers summed over processes, so that scores do not depend on the number of processes.
    :func:`segmentation_metrics` defines the scores.

    It does not subclass :class:`~detectron2.evaluation.SemSegEvaluator`, of which only the constructor would remain:
    that class reads label maps with PIL, without raw label values, GeoTIFF nodata and checks; writes all predictions as
    RLE to a second file; and, in release 0.6, counts predicted classes without ground truth in the mIoU.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | os.PathLike | None = None,
        unseen_classes: Sequence[str] | None = None,
        skip_corrupt: bool = False,
    ) -> None:
        """Read the size of the dataset and its metadata: classes, unseen classes, ignore_label and label_values.

        Args:
            dataset_name: a registered dataset with labels.
            distributed: sum the counts of all processes; False: score only this process's images.
            output_dir: for ``sem_seg_evaluation.json`` and ``confusion_matrix.png``; None: write no files.
            unseen_classes: replace those of the metadata.
            skip_corrupt: log an image whose label map cannot be used, and leave it out.

        Raises:
            ConfigError: no dataset of that name is registered.
            VocabularyError: it has no classes, or an unseen class is not among them.
            DataError: its label numbers are invalid; see :func:`~mm_ovseg.data.catalog.label_scheme`.
        """
        check_dataset(dataset_name, "DATASETS.TEST", any_form=True)
        scheme = label_scheme(MetadataCatalog.get(dataset_name))
        self._dataset_name = dataset_name
        self._dataset_size = len(DatasetCatalog.get(dataset_name))
        self._distributed = distributed
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._skip_corrupt = skip_corrupt
        self._classes = list(scheme.classes)
        self._unseen_classes = list(scheme.unseen if unseen_classes is None else unseen_classes)
        self._decision = Decision(self._classes, min_score=0.0)  # the plain argmax
        self._ignore_label = scheme.ignore_label
        self._label_values = scheme.label_values
        unseen_mask(self._classes, self._unseen_classes)
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self._confusion_matrix = np.zeros((len(self._classes), len(self._classes)), dtype=np.int64)
        self._num_images = 0

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Count the pixels of some images.

        Args:
            inputs: dataset dicts with ``file_name`` and ``sem_seg_file_name``.
            outputs: for each, ``sem_seg``: (T, H, W) scores; the highest score of a pixel is its class.

        Raises:
            DataError: an image has no label map, or one that cannot be read, differs in size from the prediction, or
                holds a value of no class; with ``skip_corrupt`` it is left out.
            VocabularyError: the number of scores differs from that of the dataset's classes.
        """
        for dataset_dict, output in zip(inputs, outputs, strict=True):
            scores = output["sem_seg"]
            if len(scores) != len(self._classes):
                raise VocabularyError(
                    f"The model scores {len(scores)} classes but dataset '{self._dataset_name}' has "
                    f"{len(self._classes)}; give the model the dataset's classes with set_vocabulary."
                )
            prediction = self._decision(scores)[0].cpu().numpy()  # (H, W)
            try:
                label = self._read_label(dataset_dict, prediction.shape)
            except DataError as error:
                if not self._skip_corrupt:
                    raise
                logger.warning("A sample is left out (INPUT.SKIP_CORRUPT): %s", error)
                continue
            self._confusion_matrix += count_pixels(label, prediction, len(self._classes), self._ignore_label)
            self._num_images += 1

    def evaluate(self) -> "OrderedDict[str, dict[str, float]] | None":
        """Score the processed images, log the table and write the output files.

        Returns:
            ``{"sem_seg": scores}`` with the scores of :func:`segmentation_metrics`, ``num_images`` (processed) and
            ``num_skipped`` (the rest of the dataset); None in processes other than the main one.

        Raises:
            DataError: no labelled pixel was processed, or the output folder cannot be written to.
        """
        confusion_matrix, num_images = self._confusion_matrix, self._num_images
        if self._distributed:
            matrices, counts = zip(*comm.all_gather((confusion_matrix, num_images)), strict=True)
            confusion_matrix, num_images = np.sum(matrices, axis=0), sum(counts)
        # Before the other processes return: all of them must stop, not just the main one.
        if not confusion_matrix.any():
            raise DataError(
                f"Dataset '{self._dataset_name}' cannot be scored: {num_images} of its {self._dataset_size} images "
                "were processed and none has a labelled pixel; look for warnings about skipped files and check the "
                "label maps and ignore_label."
            )
        if self._distributed and not comm.is_main_process():
            return None

        scores = segmentation_metrics(confusion_matrix, self._classes, self._unseen_classes)
        scores |= {"num_images": num_images, "num_skipped": self._dataset_size - num_images}
        table = format_results_table(scores, self._classes, self._unseen_classes)
        logger.info(
            "Dataset '%s', %d images, %d skipped, in percent:\n%s",
            *(self._dataset_name, num_images, scores["num_skipped"], table),
        )
        if self._output_dir is not None:
            self._write(scores, confusion_matrix)
        return OrderedDict(sem_seg=scores)

    def _read_label(self, dataset_dict: Mapping, prediction_shape: tuple[int, int]) -> np.ndarray:
        image, path = dataset_dict["file_name"], dataset_dict.get("sem_seg_file_name")
        if path is None:
            raise DataError(f"{image} has no label map; evaluate on a dataset registered with labels.")
        with RasterSource(image) if os.path.exists(image) else nullcontext() as like:
            label = read_label(
                path,
                num_classes=len(self._classes),
                ignore_label=self._ignore_label,
                label_values=self._label_values,
                like=like,
            )
        if label.shape != prediction_shape:
            raise DataError(
                f"{path} has {label.shape[0]} x {label.shape[1]} pixels (height x width) but the prediction for "
                f"{image} has {prediction_shape[0]} x {prediction_shape[1]}; warp the label map to the image's grid."
            )
        return label

    def _write(self, scores: Mapping[str, float], confusion_matrix: np.ndarray) -> None:
        report = {
            "dataset": self._dataset_name,
            "classes": self._classes,
            "unseen_classes": self._unseen_classes,
            # JSON has no nan.
            "results": {name: None if math.isnan(value) else value for name, value in scores.items()},
            "confusion_matrix": confusion_matrix.tolist(),
        }
        with complete_file(self._output_dir / "sem_seg_evaluation.json") as temporary:
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
        draw_confusion_matrix(
            self._output_dir / "confusion_matrix.png", confusion_matrix, self._classes, self._unseen_classes
        )
