"""The training loader: the same batches for any number of workers, starting from any batch."""

import itertools
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from mm_ovseg.data.catalog import list_pairs
from mm_ovseg.data.class_balance import repeat_factors
from mm_ovseg.errors import ConfigError
from mm_ovseg.randomness import derived_seed, seeded

__all__ = ["TrainLoader", "build_train_loader", "in_own_process_group", "list_training_pairs"]


class TrainLoader:
    """Endless batches of shuffled samples.

    Detectron2's batches depend on the number of workers, and always start from the first. Here the samples of all
    processes form one stream: the seed and the position in the stream determine which sample it is and how it is
    augmented. A sample that the mapper skips is replaced by another one, drawn by the same rule.

    Args:
        pairs: Dataset dicts.
        mapper: Maps a dataset dict to an item, or to None to skip the sample.
        batch_size: Items per batch of this process.
        num_workers: Number of reading processes; 0 to read in this one.
        seed: Seed of the whole stream, >= 0, the same in all processes.
        prefetch: Batches that each worker reads ahead, >= 1.
        repeat_factors: float (N,), how often each sample is drawn per epoch, >= 1; None for once.
        aspect_ratio_grouping: Never mix wide and tall samples in a batch. Samples that wait for their batch when
            training stops are lost on resuming, so resuming is exact only without it.

    Attributes:
        seed: As given. Like ``first_batch``, it may be set until the first batch is taken.
        first_batch: Number of the batch to start from, counted from 0.
    """

    def __init__(
        self,
        pairs: Sequence[Mapping],
        mapper: Callable[[Mapping], dict | None],
        *,
        batch_size: int,
        num_workers: int,
        seed: int,
        prefetch: int = 2,
        repeat_factors: torch.Tensor | None = None,
        aspect_ratio_grouping: bool = False,
    ) -> None:
        self.seed = seed
        self.first_batch = 0
        self._pairs = DatasetFromList(list(pairs), copy=False)
        self._mapper = mapper
        self._batch_size = batch_size
        # PyTorch accepts the second only with the first.
        self._workers = {
            "num_workers": num_workers,
            "prefetch_factor": prefetch if num_workers else None,
            "worker_init_fn": in_own_process_group,
        }
        self._repeat_factors = torch.ones(len(self._pairs)) if repeat_factors is None else repeat_factors
        self._aspect_ratio_grouping = aspect_ratio_grouping

    def __iter__(self) -> Iterator[list[dict]]:
        """Yield batches; workers start with the first one."""
        samples = _SeededSamples(self._pairs, self._mapper, self.seed)
        stream = _Stream(self._repeat_factors, self.seed, self.first_batch * self._batch_size)
        # Nothing is drawn from it, but without it the loader would draw from the global generator.
        generator = torch.Generator()
        arguments = {**self._workers, "generator": generator}
        if self._aspect_ratio_grouping:
            single = DataLoader(samples, sampler=stream, collate_fn=operator.itemgetter(0), **arguments)
            yield from AspectRatioGroupedDataset(single, self._batch_size)
        else:
            batches = BatchSampler(stream, self._batch_size, drop_last=True)
            yield from DataLoader(samples, batch_sampler=batches, collate_fn=trivial_batch_collator, **arguments)


def in_own_process_group(worker: int) -> None:
    """Shield a worker from signals to the whole group (Ctrl-C, torchrun); the training process ends it."""
    os.setpgid(0, 0)


class _Stream(Sampler):
    """This process's share of the stream: (position among all processes, index of the pair)."""

    def __init__(self, repeat_factors: torch.Tensor, seed: int, first: int) -> None:
        if (repeat_factors == 1).all():
            self._indices = TrainingSampler(len(repeat_factors), seed=seed)
        else:
            self._indices = RepeatFactorTrainingSampler(repeat_factors, seed=seed)
        self._first = first

    def __iter__(self) -> Iterator[tuple[int, int]]:
        positions = itertools.count(comm.get_rank(), comm.get_world_size())
        return itertools.islice(zip(positions, self._indices, strict=False), self._first, None)


class _SeededSamples(Dataset):
    def __init__(self, pairs: DatasetFromList, mapper: Callable[[Mapping], dict | None], seed: int) -> None:
        self._pairs = pairs
        self._mapper = PicklableWrapper(mapper)  # workers may be spawned, and the mapper may be a lambda
        self._seed = seed

    def __getitem__(self, place: tuple[int, int]) -> dict:
        position, index = place
        for attempt in itertools.count():
            seed = derived_seed(self._seed, "sample", position, attempt)
            if attempt > 0:
                index = seed % len(self._pairs)
            with seeded(seed):
                item = self._mapper(self._pairs[index])
            if item is not None:
                return item


def build_train_loader(cfg: CfgNode, mapper: Callable[[Mapping], dict | None]) -> TrainLoader:
    """Build the loader of ``DATASETS.TRAIN``.

    Args:
        cfg: ``DATASETS.TRAIN``, ``SOLVER.IMS_PER_BATCH`` (of all processes together), ``DATALOADER.NUM_WORKERS``,
            ``PREFETCH``, ``SAMPLER_TRAIN``, ``REPEAT_THRESHOLD`` and ``ASPECT_RATIO_GROUPING``, and ``SEED`` are read;
            if the seed is negative, all processes share a random one.
        mapper: Maps a dataset dict to an item, or to None to skip the sample. For a class-balanced sampler it must
            have ``label_readers``, like :class:`~mm_ovseg.data.mappers.RGBSARSemanticMapper`.

    Raises:
        ConfigError: A setting is out of range, or needs labels that are missing.
        DataError: See :func:`list_training_pairs`.
    """
    if cfg.DATALOADER.PREFETCH < 1:
        raise ConfigError(f"DATALOADER.PREFETCH is {cfg.DATALOADER.PREFETCH}; give 1 or more batches.")
    pairs = list_training_pairs(cfg, mapper)
    return TrainLoader(
        pairs,
        mapper,
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        prefetch=cfg.DATALOADER.PREFETCH,
        repeat_factors=_repeat_factors(cfg, pairs, mapper),
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
    )


def list_training_pairs(cfg: CfgNode, mapper: Callable[[Mapping], dict | None]) -> list[dict]:
    """The pairs of ``DATASETS.TRAIN``, with the ``entries`` that the mapper reads, if it has that attribute.

    Raises:
        ConfigError, DataError: See :func:`~mm_ovseg.data.catalog.list_pairs`.
    """
    entries = getattr(mapper, "entries", ())
    return [pair for name in cfg.DATASETS.TRAIN for pair in list_pairs(name, "DATASETS.TRAIN", entries)]


def _repeat_factors(
    cfg: CfgNode, pairs: Sequence[Mapping], mapper: Callable[[Mapping], dict | None]
) -> torch.Tensor | None:
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    if sampler == "TrainingSampler":
        return None
    if sampler != "RepeatFactorTrainingSampler":
        raise ConfigError(
            f"DATALOADER.SAMPLER_TRAIN is '{sampler}'; choose TrainingSampler or RepeatFactorTrainingSampler."
        )
    readers = getattr(mapper, "label_readers", None)
    if not readers:
        raise ConfigError(
            "DATALOADER.SAMPLER_TRAIN is RepeatFactorTrainingSampler, which needs labels, but the mapper "
            f"'{cfg.INPUT.DATASET_MAPPER_NAME}' reads none; choose TrainingSampler."
        )
    return repeat_factors(
        pairs,
        readers,
        ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        threshold=cfg.DATALOADER.REPEAT_THRESHOLD,
    )
