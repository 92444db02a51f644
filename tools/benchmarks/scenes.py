"""What ``tools/benchmark.py --mode scene`` measures."""

import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.drawn_data import write_scene_pair
from benchmarks.modes import model_size
from benchmarks.stages import StageTrace
from benchmarks.stub import StubSegmenter

from mm_ovseg.efficiency import Workload, time_runs
from mm_ovseg.efficiency.flops import released_tflop
from mm_ovseg.efficiency.machine import peak_memory
from mm_ovseg.efficiency.timer import now
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor

RUNS_ALONE = 3  # of the model without the pipeline, before and after the scenes


def measure_scene(
    workload: Workload, resident_at_start: float, size: int, metres: float, stub: float | None
) -> dict[str, Any]:
    """A scene of ``size`` pixels per side, from files to files, without building the model and embedding the text.

    ``seconds_per_pair`` is the time of the scene divided by its windows; the other fields split the scene of median
    time. The model shares the processor with reading and writing, so its time within the scene includes part of theirs;
    "alone" is the time of the model without them, before and after.

    Args:
        workload, resident_at_start: as for the other modes.
        size: side of the scene in pixels.
        metres: side of its pixels.
        stub: seconds per window of a stub that takes the place of the model; None for the model.
    """
    cfg, device = workload.cfg.clone(), workload.device
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    cfg.INPUT.RGB.BANDS, cfg.INPUT.RGB.RANGE = [], []
    cfg.INPUT.SAR.BANDS, cfg.INPUT.SAR.SCALE = [], "db"
    if stub is not None:
        cfg.MODEL.META_ARCHITECTURE = StubSegmenter.__name__
    torch.manual_seed(0)
    predictor = ScenePredictor(cfg, workload.names)
    if stub is not None:
        predictor.model.seconds = stub
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
        pair = write_scene_pair(folder, size, size, metres)
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
        "stub_seconds_per_window": stub,
        "tflop_per_pair": released_tflop(workload.cfg, workload.classes) if stub is None else None,
        **model_size(model),
    }
