"""The training loader: Detectron2's, in the form that survives samples which are left out."""

from collections.abc import Callable, Mapping

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.common import ToIterableDataset
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import IterableDataset

__all__ = ["build_train_loader"]


def build_train_loader(cfg: CfgNode, mapper: Callable[[Mapping], dict | None]) -> IterableDataset:
    """Build an endless loader of training batches from ``DATASETS.TRAIN``, shuffled.

    Detectron2 replaces a sample for which the mapper returns None by ``random.sample`` of a set, which Python 3.11
    refuses. Given an iterable dataset it goes on to the next sample instead, on every Python.

    Args:
        cfg: ``DATASETS.TRAIN``, ``SOLVER.IMS_PER_BATCH``, ``DATALOADER.NUM_WORKERS`` and
            ``DATALOADER.ASPECT_RATIO_GROUPING`` are read.
        mapper: Makes the item of a dataset dict, or None to leave the sample out.

    Returns:
        An iterable of lists of items, ``IMS_PER_BATCH`` over all processes.
    """
    pairs = DatasetFromList(get_detection_dataset_dicts(list(cfg.DATASETS.TRAIN), filter_empty=False), copy=False)
    return build_detection_train_loader(
        ToIterableDataset(pairs, TrainingSampler(len(pairs))),
        mapper=mapper,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
