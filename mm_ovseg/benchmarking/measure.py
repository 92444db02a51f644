"""Measuring a model in one of its modes: forward passes, training steps, the training loader, whole scenes."""

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tqdm import tqdm

from mm_ovseg.benchmarking.machine import peak_memory, synchronize
from mm_ovseg.benchmarking.scene import build_scene_predictor, time_scenes
from mm_ovseg.benchmarking.stages import count_flops, time_stages
from mm_ovseg.benchmarking.workloads import LossOf, build_training, random_pairs, released_tflop, time_loader
from mm_ovseg.engine.optimizer import build_optimizer
from mm_ovseg.modeling import MMOVSeg

__all__ = ["Benchmark"]

Result = TypeVar("Result")


@dataclass
class Benchmark:
    """What to measure. Each method builds a model with seeded random weights and returns numbers by name.

    Attributes:
        cfg: the model, and its device.
        dtype: "float32", "bfloat16" or "float16", of training; that of inference is in ``cfg``.
        batch_size: pairs of a batch.
        classes: names in the vocabulary.
        runs: measurements.
        warmup: runs before them.
        resident_at_start: MB of the interpreter with its imports.
        reference: the plain formulation to compare with (``plain_logits``, ``plain_loss``, ``plain_text``), or None.
    """

    cfg: CfgNode
    dtype: str
    batch_size: int
    classes: int
    runs: int
    warmup: int
    resident_at_start: float
    reference: ModuleType | None = None

    def __post_init__(self) -> None:
        self.device = torch.device(self.cfg.MODEL.DEVICE)
        self.names = tuple(f"class {index}" for index in range(self.classes))
        self.batch = random_pairs(self.batch_size, self.cfg.MODEL.CLIP.IMAGE_SIZE, self.classes)

    @torch.no_grad()
    def measure_inference(self) -> dict[str, Any]:
        """Forward passes, their stages and their arithmetic."""
        model = self._build_model().eval()
        text_seconds = self._timed(lambda: model.text(self.names))
        for _ in range(self.warmup):
            model(self.batch)
        with _text_embedded_once(self.reference):
            runs, fields = self._alternate(
                "inference",
                lambda: time_stages(model, lambda: model(self.batch), self.device),
                # The logits alone, not enlarged to the image's size: if anything, the reference is favoured.
                lambda: self.reference.plain_logits(model, self.batch, self.names),
                lambda: self._compare_logits(model),
            )
        flops, stage_flops = count_flops(model, lambda: model(self.batch))
        seconds = [run_seconds for run_seconds, _ in runs]
        # The stages of one run, so that they are parts of a whole.
        run_seconds, stage_seconds = runs[seconds.index(statistics.median_low(seconds))]
        return {
            **self._per_pair(seconds),
            **fields,
            "text_seconds": text_seconds,
            "tflop_per_pair": released_tflop(self.cfg, self.classes),
            "executed_tflop_per_pair": flops / self.batch_size / 1e12,
            "stages": {
                stage: {
                    "seconds": part / self.batch_size,
                    "share": part / run_seconds,
                    "executed_gflop": stage_flops[stage] / self.batch_size / 1e9,
                }
                for stage, part in stage_seconds.items()
            },
            **_size(model),
        }

    def measure_training(self) -> dict[str, Any]:
        """Steps of the optimiser: forward and backward pass, clipping, update."""
        model = self._build_model()
        optimizer = build_optimizer(self.cfg, model)
        trainer = build_training(self.cfg, model, optimizer, self.batch, self.dtype)
        reference_step = None
        if self.reference is not None:
            plain_model = LossOf(model, self.reference.plain_loss)
            reference_step = build_training(self.cfg, plain_model, optimizer, self.batch, "float32").run_step
        with EventStorage():
            for _ in range(self.warmup):
                trainer.run_step()
            seconds, fields = self._alternate(
                "training",
                lambda: self._timed(trainer.run_step),
                reference_step,
                lambda: self._compare_losses(model),
            )
            flops, _ = count_flops(model, trainer.run_step)
        return {
            **self._per_pair(seconds),
            **fields,
            "executed_tflop_per_pair": flops / self.batch_size / 1e12,
            **_size(model),
        }

    def measure_loader(self) -> dict[str, Any]:
        """The training loader, alone on the machine, and a training step after it."""
        seconds = time_loader(self.cfg, batch_size=self.batch_size, runs=self.runs, warmup=self.warmup)
        model = self._build_model()
        trainer = build_training(self.cfg, model, build_optimizer(self.cfg, model), self.batch, self.dtype)
        with EventStorage():
            for _ in range(self.warmup):
                trainer.run_step()
            training_rate = self.batch_size / self._timed(trainer.run_step)
        loader_rate = 1 / statistics.median(seconds)
        return {
            "seconds_per_pair": statistics.median(seconds),
            "seconds_per_pair_all": seconds,
            **peak_memory(self.device, self.resident_at_start),
            "loader_workers": self.cfg.DATALOADER.NUM_WORKERS,
            "loader_pairs_per_second": loader_rate,
            "training_pairs_per_second": training_rate,
            "loader_over_training": loader_rate / training_rate,
            **_size(model),
        }

    def measure_scene(self, size: int) -> dict[str, Any]:
        """A scene of ``size`` pixels a side, from files to files."""
        predictor = build_scene_predictor(self.cfg, self.names)
        batch = random_pairs(self.batch_size, self.cfg.INPUT.CROP.SIZE[0], self.classes)  # as large as the windows
        fields = time_scenes(predictor, size=size, batch=batch, runs=self.runs, warmup=self.warmup)
        return {
            **fields,
            **peak_memory(self.device, self.resident_at_start),
            "tflop_per_pair": released_tflop(self.cfg, self.classes),
            **_size(predictor.model),
        }

    def _build_model(self) -> MMOVSeg:
        torch.manual_seed(0)
        model = build_model(self.cfg)
        model.set_vocabulary(self.names)
        model.train_vocabulary = self.names
        return model

    def _alternate(
        self,
        title: str,
        run: Callable[[], Result],
        reference: Callable[[], object] | None,
        compare: Callable[[], dict[str, float]],
    ) -> tuple[list[Result], dict[str, Any]]:
        """Call ``run`` repeatedly, in turn with the reference, so that both meet the same noise of the machine.

        Returns:
            What ``run`` returned each time; and the peak of memory, as it was before anything of the reference ran,
            with the reference's numbers.
        """
        results, reference_seconds, fields = [], [], {}
        for _ in tqdm(range(self.runs), desc=title, unit="run", disable=None):
            results.append(run())
            if self.reference is None:
                continue
            if not reference_seconds:
                fields = peak_memory(self.device, self.resident_at_start)
                fields |= compare()
                for _ in range(self.warmup):
                    reference()
            reference_seconds.append(self._timed(reference))
        if self.reference is None:
            return results, peak_memory(self.device, self.resident_at_start)
        return results, {**fields, **self._per_pair(reference_seconds, prefix="reference_")}

    def _compare_logits(self, model: MMOVSeg) -> dict[str, float]:
        caught: list[torch.Tensor] = []
        # At the head, since the forward pass computes them in its own precision.
        with model.sem_seg_head.register_forward_hook(lambda _module, _inputs, logits: caught.append(logits)):
            model(self.batch)
        plain = self.reference.plain_logits(model, self.batch, self.names).flatten(1)
        difference = caught[0].to(plain.dtype).flatten(1) - plain  # (B, T * 4h * 4w)
        return {
            "reference_max_relative_difference": float((difference.norm(dim=1) / plain.norm(dim=1)).max()),
            "reference_max_absolute_difference": float(difference.abs().max()),
        }

    def _compare_losses(self, model: MMOVSeg) -> dict[str, float]:
        # With gradients recorded, as in training, where other kernels run than in inference.
        with torch.autocast(self.device.type, getattr(torch, self.dtype), enabled=self.dtype != "float32"):
            loss = float(model(self.batch)["loss_sem_seg"].detach())
        plain = float(self.reference.plain_loss(model, self.batch).detach())
        difference = abs(loss - plain)
        return {
            "reference_max_relative_difference": difference / abs(plain),
            "reference_max_absolute_difference": difference,
        }

    def _timed(self, run: Callable[[], object]) -> float:
        synchronize(self.device)
        start = time.perf_counter()
        run()
        synchronize(self.device)
        return time.perf_counter() - start

    def _per_pair(self, seconds: Sequence[float], prefix: str = "") -> dict[str, Any]:
        """The median, and all, of the seconds that batches took."""
        per_pair = [batch_seconds / self.batch_size for batch_seconds in seconds]
        return {
            f"{prefix}seconds_per_pair": statistics.median(per_pair),
            f"{prefix}seconds_per_pair_all": per_pair,
        }


@contextmanager
def _text_embedded_once(reference: ModuleType | None) -> Iterator[None]:
    """Spare the reference the text encoder, which it runs for every batch and which our timing leaves out."""
    if reference is None:
        yield
        return
    embed = reference.plain_text
    reference.plain_text = functools.cache(embed)
    try:
        yield
    finally:
        reference.plain_text = embed


def _size(model: MMOVSeg) -> dict[str, float]:
    parameters = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {
        "parameters_millions": sum(count for count, _ in parameters) / 1e6,
        "trainable_millions": sum(count for count, learns in parameters if learns) / 1e6,
    }
