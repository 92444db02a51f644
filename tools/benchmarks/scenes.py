"""What ``tools/benchmark.py --mode scene`` measures."""

import itertools
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from benchmarks.drawn_data import write_scene_pair
from benchmarks.modes import model_size
from benchmarks.stub import StubSegmenter

from mm_ovseg.efficiency import Workload, time_runs
from mm_ovseg.efficiency.flops import released_tflop
from mm_ovseg.efficiency.machine import MEGABYTE, peak_memory
from mm_ovseg.efficiency.timer import now
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor

RUNS_ALONE = 3  # of the model without the pipeline, before and after the scenes
DISK_INTERVAL = 0.2  # seconds


@dataclass(frozen=True)
class SceneTask:
    """The scene to measure.

    Attributes:
        size: its side in pixels.
        metres: the side of a pixel.
        stub: seconds per window of a stub that takes the place of the model; None for the model.
        keep_features: keep them, and ask a second question, with other names, for which they are used.
    """

    size: int
    metres: float
    stub: float | None
    keep_features: bool


def measure_scene(workload: Workload, resident_at_start: float, task: SceneTask) -> dict[str, Any]:
    """A scene from files to files, without building the model.

    ``seconds_per_pair`` is the time of the scene divided by its windows; the other fields split the scene of median
    time. The model shares the processor with reading and writing, so its time within the scene includes part of theirs;
    "alone" is the time of the model without them, before and after. Every question has names that were never asked for.
    """
    predictor, device = _build_predictor(workload, task.stub), workload.device
    model, batch = predictor.model, workload.random_batch(predictor.cfg.INPUT.CROP.SIZE[0])  # as large as the windows
    numbers, runs = itertools.count(workload.classes), []

    @torch.no_grad()
    def run_alone() -> None:
        model(batch)

    with TemporaryDirectory(prefix="mm_ovseg_benchmark_") as temporary:
        folder = Path(temporary)
        pair = write_scene_pair(folder, task.size, task.size, task.metres)

        def ask(features: Path | None) -> None:
            start = now(device)
            predictor.set_vocabulary([f"class {next(numbers)}" for _ in range(workload.classes)])
            options = SceneOptions(batch_size=workload.batch_size, keep_features=features)
            output = folder / f"map_{len(runs)}" / "map.tif"
            with _model_calls(model, device) as calls, _disk_use(output.parent) as disk:
                report = predictor.segment(*pair, output, options, show_progress=sys.stderr.isatty())
            runs.append({"start": start, "calls": calls, "report": report, **disk})

        def ask_first() -> None:
            ask(folder / f"features_{len(runs)}" if task.keep_features else None)

        def ask_second() -> None:
            ask(folder / f"features_{len(runs) - 1}")

        questions = [ask_first, ask_second] if task.keep_features else [ask_first]
        [before] = time_runs(run_alone, device=device, runs=RUNS_ALONE, warmup=workload.warmup)
        timing, *second = time_runs(*questions, device=device, runs=workload.runs)
        [after] = time_runs(run_alone, device=device, runs=RUNS_ALONE)
        features_mb = _folder_mb(folder / "features_0")

    total = statistics.median_low(timing.seconds)
    run = runs[:: len(questions)][timing.seconds.index(total)]
    report, calls, windows = run["report"], run["calls"], run["report"]["windows"]
    in_model, first, last = sum(end - start for start, end in calls), calls[0][0], calls[-1][1]
    alone = statistics.median(before.seconds + after.seconds) / workload.batch_size
    fields = {
        **timing.per_pair(windows),
        "scene_size": task.size,
        "window": report["settings"]["window"],
        "overlap": report["settings"]["overlap"],
        "windows": windows,
        "scene_seconds": total,
        "scene_cpu_seconds": statistics.median(timing.cpu_seconds),
        "model_seconds": in_model,
        "before_windows_seconds": first - run["start"],
        "between_windows_seconds": last - first - in_model,
        "after_windows_seconds": run["start"] + total - last,
        "overhead_percent": 100 * (total / in_model - 1),
        "model_alone_seconds_per_window": alone,
        "overhead_over_alone_percent": 100 * (total / (windows * alone) - 1),
        **peak_memory(device, resident_at_start),
        "map_mb": run["map_mb"],
        "peak_map_and_work_mb": run["peak_map_and_work_mb"],
        "stub_seconds_per_window": task.stub,
        "tflop_per_pair": released_tflop(workload.cfg, workload.classes) if task.stub is None else None,
        **model_size(model),
    }
    if task.keep_features:
        seconds = statistics.median(second[0].seconds)
        fields |= {
            "features_mb": features_mb,
            "second_question_seconds": seconds,
            "second_question_cpu_seconds": statistics.median(second[0].cpu_seconds),
            "second_question_share": seconds / total,
            "second_question_windows_from_features": runs[-1]["report"]["windows_from_features"],
        }
    return fields


def _build_predictor(workload: Workload, stub: float | None) -> ScenePredictor:
    cfg = workload.cfg.clone()
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
    return predictor


@contextmanager
def _model_calls(model: torch.nn.Module, device: torch.device) -> Iterator[list[tuple[float, float]]]:
    """Collect when the model starts and ends to work, in either of its two parts."""
    calls = []

    def timed(part: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            start = now(device)
            result = part(*arguments)
            calls.append((start, now(device)))
            return result

        return call

    with patch.object(model, "encode", timed(model.encode)), patch.object(model, "answer", timed(model.answer)):
        yield calls


@contextmanager
def _disk_use(folder: Path) -> Iterator[dict[str, float]]:
    """Measure what a folder takes in the end, as ``map_mb``, and at most, as ``peak_map_and_work_mb``."""
    use, finished = {"peak_map_and_work_mb": 0.0}, threading.Event()

    def watch() -> None:
        while not finished.wait(DISK_INTERVAL):
            use["peak_map_and_work_mb"] = max(use["peak_map_and_work_mb"], _folder_mb(folder))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield use
    finally:
        finished.set()
        thread.join()
    use["map_mb"] = _folder_mb(folder)
    use["peak_map_and_work_mb"] = max(use.values())


def _folder_mb(folder: Path) -> float:
    """MB (10^6 bytes) of the files in a folder, which may change meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total / MEGABYTE
