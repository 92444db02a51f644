"""What ``tools/benchmark.py`` measures in its modes, except scenes; every function returns numbers by name.

All take the workload and the resident memory before the model was built; those that support a reference also take its
module or None.
"""

import functools
import itertools
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from benchmarks.drawn_data import drawn_dataset
from benchmarks.stages import TimeTrace, count_stage_flops
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import nn

from mm_ovseg.data import build_dataset_mapper, build_train_loader
from mm_ovseg.efficiency import Timing, Workload, time_runs
from mm_ovseg.efficiency.flops import flop_counter, released_tflop
from mm_ovseg.efficiency.machine import peak_memory
from mm_ovseg.efficiency.measure import count_parameters
from mm_ovseg.modeling.meta_arch.segmenter import OpenVocabularySegmenter

MIN_LOADED_SIZE = 384  # pixels per side of the images that the loader reads
MIN_BATCHES_PER_ROUND = 8


@torch.no_grad()
def measure_inference(workload: Workload, resident_at_start: float, reference: ModuleType | None) -> dict[str, Any]:
    """Forward passes, their stages and their operations; and questions with new names."""
    model, batch, names = workload.build_model().eval(), workload.random_batch(), workload.names
    traces: list[TimeTrace] = []

    def run() -> None:
        with TimeTrace(model, workload.device) as trace:
            model(batch)
        traces.append(trace)

    def run_reference() -> torch.Tensor:
        # The logits only, not interpolated to the size of the image; if anything, this favours the reference.
        return reference.plain_logits(model, batch, names)

    def compare() -> tuple[torch.Tensor, torch.Tensor]:
        caught: list[torch.Tensor] = []
        # Captured at the head, since the forward pass has its own precision.
        with model.sem_seg_head.register_forward_hook(lambda _module, _inputs, logits: caught.append(logits)):
            model(batch)
        return caught[0].flatten(1), run_reference().flatten(1)  # (B, T * 4h * 4w)

    # The reference would embed the text for every batch, which our timing excludes.
    text_once = (
        patch.object(reference, "plain_text", functools.cache(reference.plain_text)) if reference else nullcontext()
    )
    with text_once:
        timing, fields = _time(workload, resident_at_start, run, run_reference if reference else None, compare)
    flops, stage_flops = count_stage_flops(model, lambda: model(batch))
    questions = _time_questions(workload, model)  # last, since they change the vocabulary
    # The stages of one run, so that they are parts of a whole.
    median_run = timing.seconds.index(statistics.median_low(timing.seconds))
    stage_seconds = traces[-workload.runs :][median_run].seconds()
    return {
        **fields,
        **questions,
        "tflop_per_pair": released_tflop(workload.cfg, workload.classes),
        "executed_tflop_per_pair": flops / workload.batch_size / 1e12,
        "stages": {
            stage: {
                "seconds": seconds / workload.batch_size,
                "share": seconds / timing.seconds[median_run],
                "executed_gflop": stage_flops[stage] / workload.batch_size / 1e9,
            }
            for stage, seconds in stage_seconds.items()
        },
        **model_size(model),
    }


def measure_training(workload: Workload, resident_at_start: float, reference: ModuleType | None) -> dict[str, Any]:
    """Optimiser steps: forward and backward pass, clipping, update."""
    model, batch = workload.build_model(), workload.random_batch()
    trainer = workload.build_trainer(model)
    plain_trainer = replace(workload, dtype="float32").build_trainer(model)
    plain_trainer.model = lambda batch: {"loss_sem_seg": reference.plain_loss(model, batch)}
    plain_trainer.optimizer = trainer.optimizer

    def compare() -> tuple[torch.Tensor, torch.Tensor]:
        # With gradients recorded, as in training, which uses other kernels than inference.
        with torch.autocast(workload.device.type, trainer.autocast_dtype, enabled=trainer.autocast_dtype is not None):
            loss = model(batch)["loss_sem_seg"]
        return loss.detach().view(1, 1), reference.plain_loss(model, batch).detach().view(1, 1)

    with EventStorage():
        run_reference = plain_trainer.run_step if reference else None
        _, fields = _time(workload, resident_at_start, trainer.run_step, run_reference, compare)
        with flop_counter() as counter:
            trainer.run_step()
    flops = counter.get_total_flops()
    return {**fields, "executed_tflop_per_pair": flops / workload.batch_size / 1e12, **model_size(model)}


def measure_loader(workload: Workload, resident_at_start: float) -> dict[str, Any]:
    """The training loader on a drawn dataset, alone on the machine, and a training step after it."""
    cfg = workload.cfg.clone()
    cfg.defrost()
    with drawn_dataset(max(MIN_LOADED_SIZE, *cfg.INPUT.CROP.SIZE)) as name:
        cfg.DATASETS.TRAIN, cfg.SOLVER.IMS_PER_BATCH = (name,), workload.batch_size
        loading, pairs = _time_loader(cfg, workload)
    model = workload.build_model()
    trainer = workload.build_trainer(model)
    with EventStorage():
        [step] = time_runs(trainer.run_step, device=workload.device, runs=1, warmup=workload.warmup)
    fields = loading.per_pair(pairs)
    loader_rate, training_rate = 1 / fields["seconds_per_pair"], workload.batch_size / step.seconds[0]
    return {
        **fields,
        **peak_memory(workload.device, resident_at_start),
        "loader_workers": cfg.DATALOADER.NUM_WORKERS,
        "loader_pairs_per_second": loader_rate,
        "training_pairs_per_second": training_rate,
        "loader_over_training": loader_rate / training_rate,
        **model_size(model),
    }


def model_size(model: nn.Module) -> dict[str, float]:
    """Parameters in millions."""
    total = count_parameters(model)["total"]
    return {"parameters_millions": total["all"] / 1e6, "trainable_millions": total["trainable"] / 1e6}


def _time_questions(workload: Workload, model: OpenVocabularySegmenter) -> dict[str, float]:
    """Seconds of a batch's first question, of other names for the same batch, and of their embedding alone, in turn.

    Every question has names that were never asked for, so that none is answered from the cache of embeddings.
    """
    batch, numbers = workload.random_batch(), itertools.count(workload.classes)
    encoded = model.encode(batch)

    def ask_new_names() -> None:
        model.set_vocabulary([f"class {next(numbers)}" for _ in range(workload.classes)])

    def first() -> None:
        ask_new_names()
        model.answer(model.encode(batch))

    def second() -> None:
        ask_new_names()
        model.answer(encoded)

    def text() -> None:
        ask_new_names()
        model.text(model.vocabulary)

    timings = time_runs(first, second, text, device=workload.device, runs=workload.runs, title="questions")
    first_seconds, second_seconds, text_seconds = (statistics.median(timing.seconds) for timing in timings)
    return {
        "first_question_seconds": first_seconds,
        "second_question_seconds": second_seconds,
        "second_question_share": second_seconds / first_seconds,
        "text_seconds": text_seconds,
    }


def _time_loader(cfg: CfgNode, workload: Workload) -> tuple[Timing, int]:
    """Time rounds of several batches; also returns the number of pairs per round."""
    batches = iter(build_train_loader(cfg, build_dataset_mapper(cfg, True)))
    # Workers prefetch two batches each. A round of several times as many is limited by their speed, and the warm-up
    # consumes the batches prefetched before.
    count = max(MIN_BATCHES_PER_ROUND, 4 * cfg.DATALOADER.NUM_WORKERS)
    [timing] = time_runs(
        lambda: sum(1 for _ in itertools.islice(batches, count)),
        device=torch.device("cpu"),
        runs=workload.runs,
        warmup=workload.warmup,
        title="loading",
    )
    return timing, count * workload.batch_size


def _time(
    workload: Workload,
    resident_at_start: float,
    run: Callable[[], object],
    run_reference: Callable[[], object] | None,
    compare: Callable[[], tuple[torch.Tensor, torch.Tensor]],
) -> tuple[Timing, dict[str, Any]]:
    """Time runs of a batch, alternating with the reference, after comparing their results (B, N)."""
    arguments = {"device": workload.device, "runs": workload.runs, "warmup": workload.warmup, "title": "timing"}
    if run_reference is None:
        [timing] = time_runs(run, **arguments)
        return timing, {**timing.per_pair(workload.batch_size), **peak_memory(workload.device, resident_at_start)}
    time_runs(run, device=workload.device, runs=workload.warmup + 1)
    memory = peak_memory(workload.device, resident_at_start)  # before anything of the reference runs
    ours, plain = compare()
    difference = ours.to(plain.dtype) - plain
    timing, reference_timing = time_runs(run, run_reference, **arguments)
    return timing, {
        **timing.per_pair(workload.batch_size),
        **memory,
        "reference_max_relative_difference": float((difference.norm(dim=1) / plain.norm(dim=1)).max()),
        "reference_max_absolute_difference": float(difference.abs().max()),
        **reference_timing.per_pair(workload.batch_size, prefix="reference_"),
    }
