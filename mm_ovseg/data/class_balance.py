"""Repeat factors of training samples, so that rare classes are seen more often."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from tqdm import tqdm

from mm_ovseg.data.seen_labels import SeenLabelReader
from mm_ovseg.errors import ConfigError, DataError

__all__ = ["MIN_SHARE", "present_classes", "repeat_factors"]

MIN_SHARE = 0.01  # of a sample's labelled pixels, from which it counts as having the class


def present_classes(label: np.ndarray, ignore_value: int) -> list[int]:
    """The classes that cover at least :data:`MIN_SHARE` of the labelled pixels of a label map.

    Args:
        label: uint8 (H, W).
        ignore_value: Value of pixels without a label.
    """
    counts = np.bincount(label.ravel(), minlength=256)
    counts[ignore_value] = 0
    return np.flatnonzero(counts >= max(1, MIN_SHARE * counts.sum())).tolist()


def repeat_factors(
    pairs: Sequence[Mapping], label_readers: Mapping[str, SeenLabelReader], *, ignore_value: int, threshold: float
) -> torch.Tensor:
    """Repeat factors of LVIS (Gupta et al. 2019, appendix B.2), for label maps instead of boxes.

    A class that occurs in a share f of the samples is repeated ``max(1, sqrt(threshold / f))`` times, and a sample as
    often as the rarest of its classes. The main process reads every label map once.

    Args:
        pairs: Dataset dicts.
        label_readers: From :func:`~mm_ovseg.data.seen_labels.build_seen_label_readers`.
        ignore_value: The one passed to that function.
        threshold: ``DATALOADER.REPEAT_THRESHOLD``, 0 < threshold <= 1.

    Returns:
        float32 (N,), each at least 1. A label map that cannot be read counts as having no classes; training reports it
        when it is drawn.

    Raises:
        ConfigError: The threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"DATALOADER.REPEAT_THRESHOLD is {threshold}; give the share of samples, above 0 and at most 1, below "
            "which a class is rare."
        )

    def annotations(pair: Mapping) -> dict:
        try:
            label = label_readers[pair["dataset_name"]].read(pair["sem_seg_file_name"])
        except DataError:
            return {"annotations": []}
        return {"annotations": [{"category_id": index} for index in present_classes(label, ignore_value)]}

    factors = None
    if comm.is_main_process():
        labelled = [annotations(pair) for pair in tqdm(pairs, "label maps", unit="file", leave=False, disable=None)]
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(labelled, threshold)
    return comm.all_gather(factors)[0]
