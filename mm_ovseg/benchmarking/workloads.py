"""What is measured: random pairs, a training step, the training loader."""

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn
from tqdm import tqdm

from mm_ovseg.data import build_dataset_mapper, build_train_loader, register_synthetic_dataset
from mm_ovseg.data.synthetic import write_synthetic_dataset
from mm_ovseg.engine.training_step import AccumulatingTrainer

__all__ = ["LossOf", "build_training", "random_pairs", "released_tflop", "time_loader"]

SEEN_CLASSES = 3  # that random labels show
LOADER_SCENES = 4  # each takes a second or two to draw
LEAST_SCENE_SIZE = 384  # pixels a side
LEAST_BATCHES_PER_ROUND = 8

# TFLOP of the released model's forward pass of one pair, for ViT-B/16 at 384 pixels with DINO ViT-B/8 and its SAR twin.
RELEASED_TFLOP = {5: 1.386}


def released_tflop(cfg: CfgNode, classes: int) -> float | None:
    """What the released model's forward pass takes for a pair, or None where that is not known."""
    model = cfg.MODEL
    is_released = (
        model.CLIP.NAME in ("ViT-B-16", "ViT-B-16-quickgelu")
        and model.DENSE_ENCODER.ENABLED
        and model.DENSE_ENCODER.NAME.startswith("vit_base_patch8")
        and not model.DENSE_ENCODER.ARGUMENTS
        and model.CLIP.IMAGE_SIZE == model.DENSE_ENCODER.IMAGE_SIZE == 384
        and model.DENSE_ENCODER_SAR.ENABLED
        and not model.CLIP_SAR.ENABLED
    )
    return RELEASED_TFLOP.get(classes) if is_released else None


def random_pairs(count: int, size: int, classes: int) -> list[dict[str, torch.Tensor]]:
    """Pairs of noise, ``size`` pixels a side, with labels of the first three classes."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> torch.Tensor:
        return torch.randint(0, 256, (3, size, size), generator=generator).float()

    labels = min(SEEN_CLASSES, classes)
    return [
        {
            "image": noise(),
            "sar_image": noise(),
            "sem_seg": torch.randint(0, labels, (size, size), generator=generator),
        }
        for _ in range(count)
    ]


class LossOf(nn.Module):
    """A model whose training loss is computed by a function of it and of a batch."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, list[dict]], torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        """The loss of a batch."""
        return {"loss_sem_seg": self.loss(self.model, batch)}


def build_training(
    cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer, batch: list[dict], dtype: str
) -> AccumulatingTrainer:
    """Training as ``SOLVER`` describes it, but on the same batch over and over, one for each step."""
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    return AccumulatingTrainer(
        model,
        itertools.repeat(batch),
        optimizer,
        accumulation_steps=1,
        max_gradient_norm=clipping.CLIP_VALUE if clipping.ENABLED and clipping.CLIP_TYPE == "full_model" else None,
        autocast_dtype=None if dtype == "float32" else dtype,
        device_type=torch.device(cfg.MODEL.DEVICE).type,
    )


def time_loader(cfg: CfgNode, *, batch_size: int, runs: int, warmup: int) -> list[float]:
    """Draw from the training loader of a synthetic dataset of PNG files, which is written for it and removed after.

    Args:
        cfg: the mapper and the number of worker processes are its own.
        batch_size: pairs of a batch.
        runs: rounds of several batches that count.
        warmup: rounds before, which do not.

    Returns:
        Seconds per pair of each of ``runs``.
    """
    size = max(LEAST_SCENE_SIZE, *cfg.INPUT.CROP.SIZE)
    with TemporaryDirectory(prefix="mm_ovseg_benchmark_") as folder:
        root = Path(folder) / "synthetic"
        write_synthetic_dataset(root, num_train=LOADER_SCENES, num_val=0, size=size, show_progress=sys.stderr.isatty())
        names = register_synthetic_dataset(root, name=Path(folder).name)
        try:
            cfg = cfg.clone()
            cfg.defrost()
            cfg.DATASETS.TRAIN = names[:1]
            cfg.SOLVER.IMS_PER_BATCH = batch_size
            return _time_rounds(cfg, runs, warmup)
        finally:
            for name in names:
                DatasetCatalog.remove(name)
                MetadataCatalog.pop(name, None)


def _time_rounds(cfg: CfgNode, runs: int, warmup: int) -> list[float]:
    # Workers keep two batches each in stock; a round of several times as many is bound by what they make, and the
    # stock of before the first one is used up in the warm-up.
    batches_per_round = max(LEAST_BATCHES_PER_ROUND, 4 * cfg.DATALOADER.NUM_WORKERS)
    batches = iter(build_train_loader(cfg, build_dataset_mapper(cfg, True)))
    rounds = []
    for _ in tqdm(range(warmup + runs), desc="loading", unit="round", disable=None):
        start = time.perf_counter()
        pairs = sum(len(batch) for batch in itertools.islice(batches, batches_per_round))
        rounds.append((time.perf_counter() - start) / pairs)
    return rounds[warmup:]
