"""What the paper's efficiency table tells of a model, measured for any config: time, memory, size, arithmetic, CO2."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn
from tqdm import tqdm

from mm_ovseg.benchmarking.emissions import EmissionsMeter
from mm_ovseg.benchmarking.flops import compare_flop_counts
from mm_ovseg.benchmarking.machine import peak_memory, reset_peak_memory, synchronize
from mm_ovseg.benchmarking.stages import count_flops
from mm_ovseg.benchmarking.workloads import build_training, random_pairs, released_tflop
from mm_ovseg.engine.optimizer import build_optimizer
from mm_ovseg.modeling import MMOVSeg

__all__ = ["Efficiency", "count_parameters"]

MODULE_DEPTH = 2  # names such as dino_sar.encoder and sem_seg_head.aggregator


@dataclass
class Efficiency:
    """What to measure. Models have seeded random weights, and see the same noise over and over.

    Attributes:
        cfg: of stage 2 (``MMOVSeg``) or stage 1 (``CrossModalUnification``), and its device.
        dtype: "float32", "bfloat16" or "float16", of training; that of inference is in ``cfg``.
        batch_size: pairs of a batch.
        classes: names in the vocabulary.
        runs: batches, or steps, that count.
        warmup: those before them.
        resident_at_start: MB of the interpreter with its imports.
        meter: measures energy and CO2; None leaves them out.
    """

    cfg: CfgNode
    dtype: str
    batch_size: int
    classes: int
    runs: int
    warmup: int
    resident_at_start: float
    meter: EmissionsMeter | None = None

    def __post_init__(self) -> None:
        self.device = torch.device(self.cfg.MODEL.DEVICE)
        self.batch = random_pairs(self.batch_size, self.cfg.MODEL.CLIP.IMAGE_SIZE, self.classes)

    def measure_parameters(self) -> dict[str, dict[str, int]]:
        """See :func:`count_parameters`."""
        return count_parameters(self._build_model())

    @torch.no_grad()
    def measure_inference(self) -> dict[str, Any]:
        """Forward passes: their time, memory, CO2 and, by two counters, their arithmetic."""
        model = self._build_model().eval()
        pairs = [{key: item[key] for key in ("image", "sar_image")} for item in self.batch]
        fields = self._measure("inference", lambda: model(pairs))
        counts = compare_flop_counts(model, pairs).per_pair(self.batch_size)
        released = released_tflop(self.cfg, self.classes)
        return {
            **fields,
            "flops_per_pair": {**asdict(counts), "reconciled": counts.reconciled},
            "released_flops_per_pair": None if released is None else released * 1e12,
        }

    def measure_training(self) -> dict[str, Any]:
        """Steps of the optimiser: their time, memory and CO2, and the arithmetic of both passes."""
        model = self._build_model()
        trainer = build_training(self.cfg, model, build_optimizer(self.cfg, model), self.batch, self.dtype)
        with EventStorage():
            fields = self._measure("training", trainer.run_step)
            flops, _ = count_flops(model, trainer.run_step)
        seconds, kilograms = fields["seconds_per_pair"], fields["co2_kilograms_per_pair"]
        scheduled_pairs = self.cfg.SOLVER.MAX_ITER * self.cfg.SOLVER.IMS_PER_BATCH
        return {
            **fields,
            "flops_per_pair": {"torch": flops / self.batch_size},
            "schedule": {
                "iterations": self.cfg.SOLVER.MAX_ITER,
                "pairs_per_iteration": self.cfg.SOLVER.IMS_PER_BATCH,
                "hours": scheduled_pairs * seconds / 3600,
                "co2_kilograms": None if kilograms is None else scheduled_pairs * kilograms,
            },
        }

    def _build_model(self) -> nn.Module:
        torch.manual_seed(0)
        model = build_model(self.cfg)
        if isinstance(model, MMOVSeg):
            names = tuple(f"class {index}" for index in range(self.classes))
            model.set_vocabulary(names)
            model.train_vocabulary = names
        return model.train()

    def _measure(self, title: str, run: Callable[[], object]) -> dict[str, Any]:
        """Run again and again; numbers for one pair."""
        reset_peak_memory(self.device)
        for _ in range(self.warmup):
            run()
        seconds: list[float] = []

        def run_all() -> None:
            for _ in tqdm(range(self.runs), desc=title, unit="run", disable=None):
                seconds.append(self._timed(run) / self.batch_size)

        if self.meter is None:
            run_all()
            emissions = None
        else:
            emissions = self.meter.measure(run_all)
        pairs = self.runs * self.batch_size
        return {
            "seconds_per_pair": statistics.median(seconds),
            "seconds_per_pair_all": seconds,
            **peak_memory(self.device, self.resident_at_start),
            "co2_kilograms_per_pair": None if emissions is None else emissions.kilograms / pairs,
            "kilowatt_hours_per_pair": None if emissions is None else emissions.kilowatt_hours / pairs,
            "emissions": None if emissions is None else asdict(emissions),
        }

    def _timed(self, run: Callable[[], object]) -> float:
        synchronize(self.device)
        start = time.perf_counter()
        run()
        synchronize(self.device)
        return time.perf_counter() - start


def count_parameters(model: nn.Module) -> dict[str, dict[str, int]]:
    """Parameters of a model: ``{name: {"all": ..., "trainable": ...}}``, "total" first, then its modules, two deep."""
    counts = {"total": {"all": 0, "trainable": 0}}
    for name, parameter in model.named_parameters():
        module = ".".join(name.split(".")[:-1][:MODULE_DEPTH]) or name
        for key in ("total", module):
            count = counts.setdefault(key, {"all": 0, "trainable": 0})
            count["all"] += parameter.numel()
            count["trainable"] += parameter.numel() * parameter.requires_grad
    return counts
