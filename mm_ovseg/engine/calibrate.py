"""Fitting the calibration of a model."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from tqdm import tqdm

import mm_ovseg
from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.data.seen_labels import SeenLabelReader, build_seen_label_readers
from mm_ovseg.decision import CALIBRATED_NAMES, Calibration
from mm_ovseg.engine.dataset_checks import check_datasets
from mm_ovseg.engine.many_vocabularies import ManyVocabularies
from mm_ovseg.engine.prompts import read_prompts
from mm_ovseg.engine.trainer import Trainer
from mm_ovseg.errors import ConfigError
from mm_ovseg.evaluation.calibration_fit import CalibrationCounts
from mm_ovseg.evaluation.open_vocabulary import CALIBRATION_NAMES, absent_names
from mm_ovseg.raster import RasterSource

__all__ = ["fit_calibration"]

SEEN, ABSENT = "seen", "absent"  # keys of scores


def fit_calibration(
    cfg: CfgNode, *, max_pairs: int | None = None, show_progress: bool = False
) -> tuple[Calibration, dict[str, Any]]:
    """Fit the calibration of a model to labelled pairs. Labels of unseen classes are not used.

    Args:
        cfg: with ``MODEL.WEIGHTS``, and in ``DATASETS.TEST`` labelled datasets with the same classes, none that the
            weights were trained with.
        max_pairs: use at most this many pairs of each dataset, evenly spaced; None: all.
        show_progress: show a progress bar on stderr.

    Returns:
        The calibration, and what it was fitted on, in plain data.

    Raises:
        ConfigError, DataError, VocabularyError: a dataset cannot be used, or the scores cannot be calibrated.
        CheckpointError: the weights cannot be loaded.
    """
    check_datasets(cfg, training=False)
    datasets, (names, *more) = cfg.DATASETS.TEST, read_prompts(cfg)
    if any(other != names for other in more):
        raise ConfigError(f"{', '.join(datasets)} do not have the same classes, which pairs of one calibration need.")
    ignore_value = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    readers = build_seen_label_readers(datasets, ignore_value, cfg.DATASETS.UNSEEN)
    seen = np.flatnonzero(readers[datasets[0]].seen_index[: len(names)] != ignore_value).tolist()
    model = Trainer.build_model(cfg)
    StrictCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    model.set_vocabulary(names)
    seen_names = [names[index] for index in seen]
    distractors = absent_names(names, CALIBRATION_NAMES)[:CALIBRATED_NAMES]
    others = {SEEN: [seen_names], ABSENT: [[*names, *distractors]]}
    asked = ManyVocabularies(model, others).eval()
    counts = CalibrationCounts(names, seen)
    loaders = [Trainer.build_test_loader(cfg, name, max_pairs) for name in datasets]
    num_pairs = sum(len(loader.dataset) for loader in loaders)
    for batch in tqdm(chain.from_iterable(loaders), total=num_pairs, unit="pair", disable=not show_progress):
        with torch.no_grad():
            outputs = asked(batch)
        for item, output in zip(batch, outputs, strict=True):
            label = _read_label(item, readers[item["dataset_name"]])
            counts.add(label, output["sem_seg"], output[SEEN], output[ABSENT])
    calibration = counts.fit()
    before, after = counts.calibration_errors(calibration)
    return calibration, {
        "fitted_on": {
            "datasets": list(datasets),
            "modalities": cfg.TEST.MODALITIES,
            "pairs": num_pairs,
            "pixels": counts.pixels,
            "seen_classes": seen_names,
            "names": list(names),
        },
        "ece": {"before": before, "after": after},
        "f1": counts.f1(),
        "mm_ovseg_version": mm_ovseg.__version__,
    }


def _read_label(item: Mapping, reader: SeenLabelReader) -> np.ndarray:
    """The label map of a pair, as read in training."""
    with RasterSource(item["file_name"]) as image, RasterSource(item["sem_seg_file_name"]) as label:
        image.align(label)
        return reader.read(label)
