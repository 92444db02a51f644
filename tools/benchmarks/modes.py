"""What ``tools/benchmark.py`` measures in each of its modes; every function returns numbers by name.

All take the workload and the resident memory before the model was built; those that support a reference also take its
module or None.
"""

import functools
import itertools
import statistics
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from benchmarks.drawn_data import drawn_dataset, write_scene_pair
from benchmarks.stages import StageTrace, TimeTrace, count_stage_flops
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import nn

from mm_ovseg.data import build_dataset_mapper, build_train_loader
from mm_ovseg.efficiency import Timing, Workload, time_runs
from mm_ovseg.efficiency.flops import flop_counter, released_tflop
from mm_ovseg.efficiency.machine import peak_memory
from mm_ovseg.efficiency.measure import count_parameters
from mm_ovseg.efficiency.timer import now
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor

MIN_LOADED_SIZE = 384  # pixels per side of the images that the loader reads
MIN_BATCHES_PER_ROUND = 8
RUNS_ALONE = 3  # of the model without the pipeline, before and after the scenes


@torch.no_grad()
def measure_inference(workload: Workload, resident_at_start: float, reference: ModuleType | None) -> dict[str, Any]:
    """Forward passes, their stages and their operations."""
    model, batch, names = workload.build_model().eval(), workload.random_batch(), workload.names
    [text] = time_runs(lambda: model.text(names), device=workload.device, runs=1)
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
    # The stages of one run, so that they are parts of a whole.
    median_run = timing.seconds.index(statistics.median_low(timing.seconds))
    stage_seconds = traces[-workload.runs :][median_run].seconds()
    return {
        **fields,
        "text_seconds": text.seconds[0],
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
        **_size(model),
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
    return {**fields, "executed_tflop_per_pair": flops / workload.batch_size / 1e12, **_size(model)}


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
        **_size(model),
    }


def measure_scene(workload: Workload, resident_at_start: float, size: int) -> dict[str, Any]:
    """A scene of ``size`` pixels per side, from files to files, without building the model and embedding the text.

    ``seconds_per_pair`` is the time of the scene divided by its windows; the other fields split the scene of median
    time. The model shares the processor with reading and writing, so its time within the scene includes part of theirs;
    "alone" is the time of the model without them, before and after.
    """
    cfg, device = workload.cfg.clone(), workload.device
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    cfg.INPUT.RGB.BANDS, cfg.INPUT.RGB.RANGE = [], []
    cfg.INPUT.SAR.BANDS, cfg.INPUT.SAR.SCALE = [], "db"
    torch.manual_seed(0)
    predictor = ScenePredictor(cfg, workload.names)
    model, batch = predictor.model, workload.random_batch(cfg.INPUT.CROP.SIZE[0])  # as large as the windows
    scenes: list[tuple[float, StageTrace, dict]] = []

    @torch.no_grad()
    def run_alone() -> None:
        model(batch)

    def segment() -> None:
        start, options = now(device), SceneOptions(batch_size=workload.batch_size)
        with StageTrace(model, lambda: now(device), {"": "other"}) as trace:
            report = predictor.segment(*pair, folder / "map.tif", options, show_progress=sys.stderr.isatty())
        scenes.append((start, trace, report))

    [before] = time_runs(run_alone, device=device, runs=RUNS_ALONE, warmup=workload.warmup)
    with TemporaryDirectory(prefix="mm_ovseg_benchmark_") as temporary:
        folder = Path(temporary)
        pair = write_scene_pair(folder, size, size)
        [timing] = time_runs(segment, device=device, runs=workload.runs)
    [after] = time_runs(run_alone, device=device, runs=RUNS_ALONE)

    total = statistics.median_low(timing.seconds)
    start, trace, report = scenes[timing.seconds.index(total)]
    in_model = trace.split(lambda entered, left: left - entered)["other"]
    first, last = trace.readings[0][1], trace.readings[-1][1]
    windows, alone = report["windows"], statistics.median(before.seconds + after.seconds) / workload.batch_size
    return {
        **timing.per_pair(windows),
        "scene_size": size,
        "window": report["settings"]["window"],
        "overlap": report["settings"]["overlap"],
        "windows": windows,
        "scene_seconds": total,
        "model_seconds": in_model,
        "before_windows_seconds": first - start,
        "between_windows_seconds": last - first - in_model,
        "after_windows_seconds": start + total - last,
        "overhead_percent": 100 * (total / in_model - 1),
        "model_alone_seconds_per_window": alone,
        "overhead_over_alone_percent": 100 * (total / (windows * alone) - 1),
        **peak_memory(device, resident_at_start),
        "tflop_per_pair": released_tflop(workload.cfg, workload.classes),
        **_size(model),
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


def _size(model: nn.Module) -> dict[str, float]:
    total = count_parameters(model)["total"]
    return {"parameters_millions": total["all"] / 1e6, "trainable_millions": total["trainable"] / 1e6}
