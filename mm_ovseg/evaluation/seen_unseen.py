"""Detectron2's evaluator of semantic segmentation, with scores over all, seen and unseen classes."""

import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from mm_ovseg.data.catalog import label_scheme
from mm_ovseg.data.registration import check_dataset
from mm_ovseg.decision import Calibration, Decision
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.evaluation.confidence import ConfidenceTest
from mm_ovseg.evaluation.metrics import count_pixels, format_results_table, segmentation_metrics
from mm_ovseg.evaluation.open_vocabulary import AbsentNames, Decide, SingleNames, choose_absent_names
from mm_ovseg.evaluation.pixel_test import PixelTest
from mm_ovseg.evaluation.score_tables import format_absent_names_table, format_confidence_table
from mm_ovseg.files import complete_file
from mm_ovseg.raster import RasterSource, read_label
from mm_ovseg.visualization.confusion_matrix import draw_confusion_matrix
from mm_ovseg.visualization.reliability import draw_reliability

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
        names: Sequence[str] | None = None,
        calibration: Calibration | None = None,
        decide: Decide | None = None,
        num_absent_names: int = 0,
        single_names: bool = False,
        modalities: str = "both",
    ) -> None:
        """Read the size of the dataset and its metadata: classes, unseen classes, ignore_label and label_values.

        Args:
            dataset_name: a registered dataset with labels.
            distributed: sum the counts of all processes; False: score only this process's images.
            output_dir: for ``sem_seg_evaluation.json``, ``confusion_matrix.png`` and ``reliability.png``; None: write
                no files.
            unseen_classes: replace those of the metadata.
            skip_corrupt: log an image whose label map cannot be used, and leave it out.
            names: what the model is asked for, one for each class; None: the classes.
            calibration: of the model's scores; the map stays the highest score.
            decide: names -> the decision that users get, for the next two; None: with the calibration alone.
            num_absent_names: number of distractors of :class:`~mm_ovseg.evaluation.open_vocabulary.AbsentNames`; 0
                leaves out this test.
            single_names: also test :class:`~mm_ovseg.evaluation.open_vocabulary.SingleNames`.
            modalities: what the model is shown, for the file.

        Raises:
            ConfigError: no dataset of that name is registered, or there are not as many absent names.
            VocabularyError: it has no classes, or an unseen class is not among them.
            DataError: its label numbers are invalid; see :func:`~mm_ovseg.data.catalog.label_scheme`.
        """
        check_dataset(dataset_name, "DATASETS.TEST", any_form=True)
        scheme = label_scheme(MetadataCatalog.get(dataset_name))
        self._dataset_name = dataset_name
        self._dataset_size = len(DatasetCatalog.get(dataset_name))
        self._distributed = distributed
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._skip_corrupt, self._modalities = skip_corrupt, modalities
        self._classes = list(scheme.classes)
        self._unseen_classes = list(scheme.unseen if unseen_classes is None else unseen_classes)
        self._decision = Decision(self._classes, min_score=0.0)  # the plain argmax
        self._ignore_label = scheme.ignore_label
        self._label_values = scheme.label_values
        self._confidence = ConfidenceTest(self._classes, self._unseen_classes, calibration)
        self._tests: list[PixelTest] = [self._confidence]
        names = self._classes if names is None else names
        decide = decide or partial(Decision, calibration=calibration)
        if num_absent_names:
            self._tests.append(AbsentNames(names, choose_absent_names(num_absent_names, names), decide))
        if single_names:
            self._tests.append(SingleNames(names, self._classes, self._unseen_classes, decide))
        self.reset()

    @property
    def vocabularies(self) -> dict[str, Sequence[Sequence[str]]]:
        """Key of an output -> what the model is to be asked for besides, for :meth:`process`."""
        return {test.name: test.vocabularies for test in self._tests if test.vocabularies}

    def reset(self) -> None:
        """Forget all counts."""
        for test in self._tests:
            test.counts[...] = 0
        self._confusion_matrix = np.zeros((len(self._classes), len(self._classes)), dtype=np.int64)
        self._num_images = 0

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Count the pixels of some images.

        Args:
            inputs: dataset dicts with ``file_name`` and ``sem_seg_file_name``.
            outputs: for each, ``sem_seg``: (T, H, W) scores; the highest score of a pixel is its class. And for each
                key of :attr:`vocabularies` the scores of all its names.

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
            for test in self._tests:
                test.add(label, label != self._ignore_label, output)
            self._num_images += 1

    def evaluate(self) -> "OrderedDict[str, dict[str, float]] | None":
        """Score the processed images, log the table and write the output files.

        Returns:
            ``sem_seg``: the scores of :func:`segmentation_metrics`, ``num_images`` (processed) and ``num_skipped`` (the
            rest of the dataset); ``confidence``, ``absent_names`` and ``single_names``: the ``results`` of
            :class:`~mm_ovseg.evaluation.confidence.ConfidenceTest` and of the tests of
            :mod:`mm_ovseg.evaluation.open_vocabulary`. None in processes other than the main one.

        Raises:
            DataError: no labelled pixel was processed, or the output folder cannot be written to.
        """
        counts = [self._confusion_matrix, *(test.counts for test in self._tests), np.array(self._num_images)]
        if self._distributed:
            counts = [np.sum(of_processes, axis=0) for of_processes in zip(*comm.all_gather(counts), strict=True)]
        (confusion_matrix, *test_counts), num_images = counts[:-1], int(counts[-1])
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
        results = OrderedDict(sem_seg=scores)
        for test, of_test in zip(self._tests, test_counts, strict=True):
            results[test.name] = test.results(of_test)
        logger.info(
            "Dataset '%s', %d images, %d skipped, in percent:\n%s",
            *(self._dataset_name, num_images, scores["num_skipped"], self._format_tables(results)),
        )
        if self._output_dir is not None:
            self._write(results, confusion_matrix, self._confidence.curves(test_counts[0]))
        return results

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

    def _format_tables(self, results: Mapping[str, Mapping[str, float]]) -> str:
        classes, alone = (self._classes, self._unseen_classes), results.get(SingleNames.name)
        tables = [format_results_table(results["sem_seg"], *classes, alone)]
        tables.append(format_confidence_table(results[ConfidenceTest.name]))
        if AbsentNames.name in results:
            tables.append(format_absent_names_table(results[AbsentNames.name]))
        return "\n\n".join(tables)

    def _write(
        self, results: Mapping[str, Mapping[str, float]], confusion_matrix: np.ndarray, curves: Mapping[str, Any]
    ) -> None:
        # JSON has no nan.
        plain = {
            key: {name: None if math.isnan(value) else value for name, value in scores.items()}
            for key, scores in results.items()
        }
        report = {
            "dataset": self._dataset_name,
            "modalities": self._modalities,
            "classes": self._classes,
            "unseen_classes": self._unseen_classes,
            "results": plain.pop("sem_seg"),
            **plain,
            "confusion_matrix": confusion_matrix.tolist(),
            "confidence_curves": curves,
        }
        with complete_file(self._output_dir / "sem_seg_evaluation.json") as temporary:
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
        draw_confusion_matrix(
            self._output_dir / "confusion_matrix.png", confusion_matrix, self._classes, self._unseen_classes
        )
        draw_reliability(self._output_dir / "reliability.png", {"": curves})
