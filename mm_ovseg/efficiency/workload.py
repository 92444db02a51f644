"""The workload of a measurement: a model with random weights, and random pairs."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from mm_ovseg.engine import load_config
from mm_ovseg.engine.config_checks import check_needs_training
from mm_ovseg.engine.optimizer import build_optimizer
from mm_ovseg.engine.training_step import AccumulatingTrainer, step_arguments
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.meta_arch.segmenter import OpenVocabularySegmenter
from mm_ovseg.modeling.precision import allow_tf32

__all__ = ["DTYPES", "Workload", "load_measured_config"]

DTYPES = ("float32", "bfloat16", "float16")
LABELLED_CLASSES = 3  # in random labels


def load_measured_config(
    config_file: str | Path, opts: Sequence[str], *, dtype: str, device: str | None, models: Sequence[str]
) -> CfgNode:
    """Read the config of a model to measure; its datasets need not exist.

    Args:
        config_file: of either stage.
        opts: overrides, KEY VALUE ...
        dtype: one of ``DTYPES``, for inference.
        device: "cpu", "cuda" or "mps"; None leaves the choice to the config.
        models: allowed values of ``MODEL.META_ARCHITECTURE``.

    Raises:
        ConfigError: the config is invalid, or describes another model.
    """
    overrides = [*opts, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.INFERENCE_DTYPE", dtype]
    overrides += [] if device is None else ["MODEL.DEVICE", device]
    cfg = load_config(config_file, overrides, needs_datasets=False)
    if cfg.MODEL.META_ARCHITECTURE not in models:
        raise ConfigError(
            f"{config_file} describes {cfg.MODEL.META_ARCHITECTURE}; give a config of {' or '.join(models)}."
        )
    return cfg


@dataclass(frozen=True)
class Workload:
    """A model and its input. Weights are random but seeded, and every run sees the same noise.

    Attributes:
        cfg: of stage 2 (``MMOVSeg``) or stage 1 (``CrossModalUnification``), with its device.
        dtype: one of ``DTYPES``, for training; inference uses that of ``cfg``.
        batch_size: pairs in a batch.
        classes: names in the vocabulary.
        runs: number of timed batches or optimiser steps.
        warmup: untimed runs before them.

    Raises:
        ConfigError: a number is not positive.
    """

    cfg: CfgNode
    dtype: str = "float32"
    batch_size: int = 1
    classes: int = 5
    runs: int = 5
    warmup: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "classes", "runs", "warmup"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; give 1 or more.")

    def describe(self) -> dict[str, Any]:
        """Fields of a report."""
        fields = {name: getattr(self, name) for name in ("batch_size", "classes", "runs", "warmup")}
        return {**fields, "image_size": self.image_size}

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return torch.device(self.cfg.MODEL.DEVICE)

    @property
    def image_size(self) -> int:
        """Height and width of a pair in pixels: that of evaluation, or else of CLIP."""
        return self.cfg.INPUT.MIN_SIZE_TEST or self.cfg.MODEL.CLIP.IMAGE_SIZE

    @property
    def names(self) -> tuple[str, ...]:
        """The vocabulary."""
        return tuple(f"class {index}" for index in range(self.classes))

    def random_batch(self, size: int | None = None) -> list[dict[str, torch.Tensor]]:
        """Pairs of ``size`` x ``size`` pixels, by default :attr:`image_size`, with labels; the same in every call."""
        size = size or self.image_size
        generator = torch.Generator().manual_seed(0)

        def noise(values: int, *shape: int) -> torch.Tensor:
            return torch.randint(0, values, shape, generator=generator)

        return [
            {
                "image": noise(256, 3, size, size).float(),
                "sar_image": noise(256, 3, size, size).float(),
                "sem_seg": noise(min(LABELLED_CLASSES, self.classes), size, size),
            }
            for _ in range(self.batch_size)
        ]

    def build_model(self) -> nn.Module:
        """The model in training mode; stage 2 has its vocabulary."""
        allow_tf32(self.cfg.MODEL.ALLOW_TF32)
        torch.manual_seed(0)
        model = build_model(self.cfg)
        if isinstance(model, OpenVocabularySegmenter):
            model.set_vocabulary(self.names)
            model.train_vocabulary = self.names
        return model.train()

    def build_trainer(self, model: nn.Module, *, accumulation_steps: int = 1) -> AccumulatingTrainer:
        """A training loop as configured by ``SOLVER``, but with the same batch, and this number of them in a step.

        Raises:
            ConfigError: the model needs no training.
        """
        check_needs_training(self.cfg)
        arguments = {
            **step_arguments(self.cfg),
            "accumulation_steps": accumulation_steps,
            "autocast_dtype": None if self.dtype == "float32" else self.dtype,
        }
        batches = itertools.repeat(self.random_batch())
        return AccumulatingTrainer(model, batches, build_optimizer(self.cfg, model), **arguments)
