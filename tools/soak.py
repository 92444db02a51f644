#!/usr/bin/env python
r"""Segment scenes and pairs for as long as you like, with faults on the way, and count what is lost: nothing.

python tools/soak.py --minutes 60 --output output/soak

Every job is one scene or one list of pairs, made at random, sound or with a fault: a block that cannot be read, a
partner that is not there, an image that is cut off, or memory that runs out in the model. What is sound is to become a
map, and the same one as before the fault; what is not is to be named in the report. report.json holds the counts and
the memory of the process over time.
"""

import argparse
import itertools
import json
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from tqdm import tqdm

from mm_ovseg.command_line import clean_exit
from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import check_writable_folder, complete_file
from mm_ovseg.inference.archive_worker import SceneWorker
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("city", "road", "water, river")
FAULTS = ("none", "none", "unreadable block", "missing partner", "cut off", "out of memory")
WARM_UP = 0.3  # of the time, in which memory still grows: caches fill
MAX_GROWTH = 64.0  # MiB, from the end of the warm-up to the end of the run


class MemoryLimit:
    """A model's batches fail above so many items, as on a device that is too small; None: no limit."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.most: int | None = None
        self.refused = 0
        model.register_forward_pre_hook(self._check)

    def _check(self, _: torch.nn.Module, arguments: tuple) -> None:
        if self.most is not None and len(arguments[0]) > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory (injected).")


@dataclass
class Tally:
    """What was done, and what went wrong.

    Attributes:
        jobs, faults, ends: how often each kind of job, fault and end was met.
        failures: every failure that was reported, a line each.
        lost: what did not end as it should, a line each.
        memory: (seconds, MiB) of the process after each job.
    """

    jobs: Counter = field(default_factory=Counter)
    faults: Counter = field(default_factory=Counter)
    ends: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)


class Soak:
    """Makes jobs, runs them, and compares what becomes of them with what should.

    Args:
        folder: for the files.
        seed: of the jobs.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        torch.manual_seed(seed)
        cfg = load_config(
            ROOT / "configs" / "quickstart" / "mm_ovseg.yaml",
            ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "INPUT.SKIP_CORRUPT", "True"],
        )
        self._scenes = ScenePredictor(cfg, CLASSES)
        self._limit = MemoryLimit(self._scenes.model)
        self._worker = SceneWorker(lambda: self._scenes, torch.get_num_threads(), str(Path.cwd()))
        self._worker.build()
        self._folder, self._random = folder, np.random.default_rng(seed)
        self.tally = Tally()

    def job(self, number: int) -> None:
        """Make one job, run it, and note how it ended."""
        fault = str(self._random.choice(FAULTS))
        kind = "scene" if self._random.random() < 0.6 else "pairs"
        self.tally.jobs[kind] += 1
        self.tally.faults[fault] += 1
        (self._scene if kind == "scene" else self._pairs)(number, fault)

    @property
    def refused_batches(self) -> int:
        """Batches that memory did not hold, each tried again in halves."""
        return self._limit.refused

    def _scene(self, number: int, fault: str) -> None:
        """A scene sound, then with the fault, then mended again."""
        name = f"scene_{number}"
        height, width = (int(size) for size in self._random.integers(50, 130, 2))
        rgb, sar = self._write(f"{name}_rgb.tif", 3, height, width), None
        if fault in ("unreadable block", "missing partner") or self._random.random() < 0.7:
            sar = self._write(f"{name}_sar.tif", 1, height // 2 + 1, width // 2 + 1, pixel=2)
        scene, output = SceneFiles(name, (rgb,), (sar,) if sar else ()), self._folder / f"{name}.tif"
        options = SceneOptions(window=48, batch_size=4, least_covered=0.0)
        expected = self._map(scene, output, options)
        broken = {"unreadable block": sar, "missing partner": sar, "cut off": rgb}.get(fault)
        if fault == "out of memory":
            self._limit.most = int(self._random.integers(1, 4))
            self._compare(name, self._map(scene, output, options), expected, tolerance=0.01)
            self._limit.most = None
        elif broken is not None:
            whole = broken.read_bytes()
            self._damage(broken, fault)
            output.unlink()
            outcome = self._worker.segment(scene, output, options)
            self.tally.ends[outcome.status] += 1
            self._note_failure(name, fault, broken.name, outcome.error, is_lost=output.exists())
            broken.write_bytes(whole)
            self._compare(name, self._map(scene, output, options), expected)
        for path in self._folder.glob(f"{name}*"):
            if path.is_dir():
                self.tally.lost.append(f"{name}: the folder {path.name} is left over.")
            else:
                path.unlink()

    def _pairs(self, number: int, fault: str) -> None:
        """A list of pairs, one of them with the fault; the others are to come out as without it."""
        name, count = f"pairs_{number}", int(self._random.integers(2, 7))
        size = [int(side) for side in self._random.integers(24, 80, 2)]
        pairs = [
            (self._write(f"{name}_{i}_rgb.png", 3, *size), self._write(f"{name}_{i}_sar.png", 1, *size))
            for i in range(count)
        ]
        expected = [prediction.class_map for prediction in self._scenes.predictor.batch(pairs)]
        sick = int(self._random.integers(count))
        if fault == "out of memory":
            self._limit.most, sick = int(self._random.integers(1, 4)), -1
        elif fault != "none":
            self._damage(pairs[sick][1], fault)
        else:
            sick = -1
        messages = _Messages()
        logger = logging.getLogger("mm_ovseg")
        logger.addHandler(messages)
        predictions = self._scenes.predictor.batch(pairs)
        logger.removeHandler(messages)
        self._limit.most = None
        for index, (prediction, whole) in enumerate(zip(predictions, expected, strict=True)):
            if index == sick:
                self.tally.ends["failed" if prediction is None else "done"] += 1
                said = next((text for text in messages.texts if pairs[sick][1].name in text), "")
                self._note_failure(f"{name}, pair {index}", fault, pairs[sick][1].name, said, prediction is not None)
            else:
                self.tally.ends["lost" if prediction is None else "done"] += 1
                found = None if prediction is None else prediction.class_map
                self._compare(f"{name}, pair {index}", found, whole, tolerance=0.01)
        for path in self._folder.glob(f"{name}_*"):
            path.unlink()

    def _map(self, scene: SceneFiles, output: Path, options: SceneOptions) -> np.ndarray | None:
        outcome = self._worker.segment(scene, output, options)
        self.tally.ends[outcome.status] += 1
        if outcome.status != "done":
            self.tally.lost.append(f"{scene.name} is sound and failed: {outcome.error}")
            return None
        with rasterio.open(output) as file:
            return file.read(1)

    def _compare(self, name: str, found: np.ndarray | None, whole: np.ndarray | None, tolerance: float = 0.0) -> None:
        """Batches of another size round otherwise, so a share of the pixels may differ, where two classes are close."""
        if found is None or whole is None or found.shape != whole.shape or (found != whole).mean() > tolerance:
            self.tally.lost.append(f"{name}: the map is not the one of the sound run.")

    def _note_failure(self, name: str, fault: str, file: str, error: str, is_lost: bool) -> None:
        self.tally.failures.append(f"{name} ({fault}): {error}")
        if is_lost or file not in error:
            self.tally.lost.append(f"{name}: the fault '{fault}' of {file} is not told ({error or 'no error'}).")

    def _write(self, name: str, count: int, height: int, width: int, pixel: int = 1) -> Path:
        path = self._folder / name
        profile: dict[str, Any] = {"driver": "PNG"}
        if path.suffix == ".tif":
            profile = {"driver": "GTiff", "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
            profile |= {"crs": "EPSG:32652", "transform": from_origin(500000, 4000000, pixel, pixel)}
        values = self._random.integers(1, 256, (count, height, width), dtype=np.uint8)
        with rasterio.open(path, "w", width=width, height=height, count=count, dtype="uint8", **profile) as file:
            file.write(values)
        return path

    def _damage(self, path: Path, fault: str) -> None:
        content = bytearray(path.read_bytes())
        if fault == "missing partner":
            path.unlink()
        elif fault == "cut off":
            path.write_bytes(content[: len(content) // 3])
        else:
            middle = len(content) * 2 // 3
            content[middle : middle + 200] = bytes(200)
            path.write_bytes(content)


class _Messages(logging.Handler):
    """The warnings of a run."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def memory_of_process() -> float:
    """MiB that this process holds."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def memory_report(samples: Sequence[tuple[float, float]]) -> dict[str, float]:
    """From (seconds, MiB): where memory stood after the warm-up and at the end, and the slope between them."""
    end = samples[-1][0]
    kept = np.array([sample for sample in samples if sample[0] >= WARM_UP * end][-100_000:])
    thirds = np.array_split(kept[:, 1], 3)
    slope = np.polyfit(kept[:, 0], kept[:, 1], 1)[0] if len(kept) > 2 else 0.0
    first, last = (float(np.median(part)) if len(part) else float(kept[-1, 1]) for part in (thirds[0], thirds[-1]))
    return {
        "after_warm_up_mib": round(first, 1),
        "at_the_end_mib": round(last, 1),
        "growth_mib": round(last - first, 1),
        "slope_mib_per_hour": round(float(slope) * 3600, 1),
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default: 5)")
    parser.add_argument("--jobs", type=int, help="end after so many jobs, if that is sooner")
    parser.add_argument("--output", type=Path, default=Path("output/soak"), help="folder (default: output/soak)")
    parser.add_argument("--seed", type=int, default=0, help="of the jobs (default: 0)")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Run, report, and say by the exit status 1 that something was lost or memory grew."""
    args = parse_arguments(arguments)
    if args.minutes <= 0 or (args.jobs is not None and args.jobs < 1):
        raise ConfigError("--minutes and --jobs need positive numbers.")
    check_writable_folder(args.output)
    work = args.output / "files"
    work.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("mm_ovseg")
    logger.addHandler(logging.NullHandler())  # what is expected here goes to the report
    logger.propagate = False
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    soak, start = Soak(work, args.seed), time.monotonic()
    with tqdm(unit="job", disable=None) as progress:
        for number in itertools.count():
            if (seconds := time.monotonic() - start) >= 60 * args.minutes or number == args.jobs:
                break
            soak.job(number)
            soak.tally.memory.append((seconds, memory_of_process()))
            progress.update()
    tally = dict(vars(soak.tally))
    memory = memory_report(tally.pop("memory"))
    report = {"minutes": round(seconds / 60, 2), "batches_halved": soak.refused_batches, "memory": memory, **tally}
    with complete_file(args.output / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(
        f"{sum(report['jobs'].values())} jobs in {report['minutes']} minutes; {len(report['failures'])} failures, "
        f"each reported; {soak.refused_batches} batches halved; {len(report['lost'])} lost; memory "
        f"{memory['growth_mib']:+.1f} MiB ({memory['slope_mib_per_hour']:+.1f} MiB an hour)."
    )
    for line in report["lost"]:
        print(f"lost: {line}", file=sys.stderr)
    if report["lost"] or memory["growth_mib"] > MAX_GROWTH:
        sys.exit(1)


if __name__ == "__main__":
    main()
