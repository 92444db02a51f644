"""Scenes and lists of pairs, sound or with a fault: nothing is lost, every failure is reported, and memory stays flat.

``make test`` runs a few jobs, ``make soak`` as many as fit into MM_OVSEG_SOAK_MINUTES; the counts are then in
output/soak/report.json.
"""

import itertools
import json
import logging
import os
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.engine import load_config
from mm_ovseg.inference.archive_worker import Outcome, SceneWorker
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from tests.conftest import ROOT

MINUTES = float(os.environ.get("MM_OVSEG_SOAK_MINUTES", "5"))
OUTPUT = ROOT / "output" / "soak"
FAULTS = ("none", "none", "unreadable block", "missing partner", "cut off", "out of memory")
WARM_UP = 0.3  # of the time, in which caches fill
MAX_GROWTH = 64.0  # MiB, between the first and the last third of the time after the warm-up


class Soak:
    """Runs random jobs and compares each result with that of the same job without its fault.

    Attributes:
        jobs, faults, ends: how many jobs, faults and outcomes of each kind there were.
        failures: every reported failure, one line each.
        lost: everything that did not end as it should, one line each.
        batches_halved: how many batches did not fit into memory.
    """

    def __init__(self, folder, seed):
        torch.manual_seed(seed)
        overrides = ["MODEL.DEVICE", "cpu", "INPUT.SKIP_CORRUPT", "True"]
        self.scenes = ScenePredictor(
            load_config(ROOT / "configs/quickstart/mm_ovseg.yaml", overrides), ("city", "road", "water, river")
        )
        self.worker = SceneWorker(lambda: self.scenes, torch.get_num_threads(), str(Path.cwd()))
        self.worker.build()
        self.folder, self.random = folder, np.random.default_rng(seed)
        self.jobs, self.faults, self.ends = Counter(), Counter(), Counter()
        self.failures, self.lost = [], []
        self.max_batch, self.batches_halved = None, 0
        self.scenes.model.register_forward_pre_hook(self._run_out_of_memory)

    def _run_out_of_memory(self, _, arguments):
        if self.max_batch is not None and len(arguments[0]) > self.max_batch:
            self.batches_halved += 1
            raise torch.OutOfMemoryError("CUDA out of memory (injected).")

    def run(self, number):
        fault = str(self.random.choice(FAULTS))
        kind = "scene" if self.random.random() < 0.6 else "pairs"
        self.jobs[kind] += 1
        self.faults[fault] += 1
        name = f"{kind}_{number}"
        (self._run_scene if kind == "scene" else self._run_pairs)(name, fault)
        for path in self.folder.glob(f"{name}*"):
            if path.is_dir():
                self.lost.append(f"{name}: the folder {path.name} is left over.")
            else:
                path.unlink()

    def _run_scene(self, name, fault):
        """A scene, sound, then with the fault, then repaired."""
        height, width = (int(size) for size in self.random.integers(50, 130, 2))
        rgb, sar = self._write(f"{name}_rgb.tif", 3, height, width), None
        if fault in ("unreadable block", "missing partner") or self.random.random() < 0.7:
            sar = self._write(f"{name}_sar.tif", 1, height // 2 + 1, width // 2 + 1, pixel=2)
        scene, output = SceneFiles(name, (rgb,), (sar,) if sar else ()), self.folder / f"{name}.tif"
        expected = self._segment(scene, output)
        if fault == "out of memory":
            self.max_batch = int(self.random.integers(1, 4))
            self._compare(name, self._segment(scene, output), expected, tolerance=0.01)
            self.max_batch = None
        elif fault != "none":
            broken = rgb if fault == "cut off" else sar
            sound = broken.read_bytes()
            damage(broken, fault)
            output.unlink()
            outcome = self._outcome(scene, output)
            self._note_failure(name, fault, broken, outcome.error, is_lost=output.exists())
            broken.write_bytes(sound)
            self._compare(name, self._segment(scene, output), expected)

    def _run_pairs(self, name, fault):
        """A list of pairs, one of them with the fault; the others are not affected."""
        count = int(self.random.integers(2, 7))
        size = [int(side) for side in self.random.integers(24, 80, 2)]
        pairs = [
            (self._write(f"{name}_{i}_rgb.png", 3, *size), self._write(f"{name}_{i}_sar.png", 1, *size))
            for i in range(count)
        ]
        expected = [prediction.class_map for prediction in self.scenes.predictor.batch(pairs)]
        broken = int(self.random.integers(count))
        if fault == "out of memory":
            self.max_batch = int(self.random.integers(1, 4))
        elif fault != "none":
            damage(pairs[broken][1], fault)
        messages, handler = [], logging.Handler(logging.WARNING)
        handler.emit = lambda record: messages.append(record.getMessage())
        logging.getLogger("mm_ovseg").addHandler(handler)
        predictions = self.scenes.predictor.batch(pairs)
        logging.getLogger("mm_ovseg").removeHandler(handler)
        self.max_batch = None
        for index, (prediction, sound) in enumerate(zip(predictions, expected, strict=True)):
            if index == broken and fault not in ("none", "out of memory"):
                self.ends["done" if prediction else "failed"] += 1
                file = pairs[broken][1]
                error = next((text for text in messages if file.name in text), "")
                self._note_failure(f"{name}, pair {index}", fault, file, error, is_lost=prediction is not None)
            else:
                self.ends["done" if prediction else "lost"] += 1
                self._compare(f"{name}, pair {index}", prediction and prediction.class_map, sound, tolerance=0.01)

    def _outcome(self, scene, output):
        outcome = self.worker.segment(scene, output, SceneOptions(window=48, batch_size=4, min_covered=0.0))
        self.ends[outcome.status] += 1
        return outcome

    def _segment(self, scene, output):
        """The map of a sound scene, (H, W); None if there is none."""
        outcome = self._outcome(scene, output)
        if outcome.status != "done":
            self.lost.append(f"{scene.name} is sound and failed: {outcome.error}")
            return None
        with rasterio.open(output) as file:
            return file.read(1)

    def _compare(self, name, found, sound, tolerance=0.0):
        """``tolerance``: batches of another size round differently, which decides where two classes are close."""
        if found is None or sound is None or found.shape != sound.shape or (found != sound).mean() > tolerance:
            self.lost.append(f"{name}: the map is not that of the sound run.")

    def _note_failure(self, name, fault, file, error, *, is_lost):
        self.failures.append(f"{name} ({fault}): {error}")
        if is_lost or file.name not in error:
            self.lost.append(f"{name}: the fault '{fault}' of {file.name} is not reported ({error or 'no error'}).")

    def _write(self, name, count, height, width, pixel=1):
        path, profile = self.folder / name, {"driver": "PNG"}
        if path.suffix == ".tif":
            profile = {"driver": "GTiff", "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
            profile |= {"crs": "EPSG:32652", "transform": from_origin(500000, 4000000, pixel, pixel)}
        values = self.random.integers(1, 256, (count, height, width), dtype=np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", width=width, height=height, count=count, dtype="uint8", **profile) as file:
                file.write(values)
        return path


def damage(path, fault):
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 3
    if fault == "missing partner":
        path.unlink()
    elif fault == "cut off":
        path.write_bytes(content[: len(content) // 3])
    else:
        content[middle : middle + 200] = bytes(200)
        path.write_bytes(content)


def resident_memory():
    """MiB that this process holds."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def run_jobs(folder, *, seed=0, jobs=None, minutes=MINUTES):
    """Run jobs until one of the limits, and return what became of them."""
    soak, start, memory = Soak(folder, seed), time.monotonic(), []
    for number in itertools.count():
        seconds = time.monotonic() - start
        if seconds >= 60 * minutes or number == jobs:
            break
        soak.run(number)
        memory.append((seconds, resident_memory()))
    kept = [size for moment, size in memory if moment >= WARM_UP * memory[-1][0]]
    third = -(-len(kept) // 3)
    first, last = float(np.median(kept[:third])), float(np.median(kept[-third:]))
    counts = ("jobs", "faults", "ends", "batches_halved", "failures", "lost")
    memory = {"after_warm_up_mib": round(first, 1), "at_the_end_mib": round(last, 1)}
    return {"minutes": round(seconds / 60, 2), "memory": memory, **{name: getattr(soak, name) for name in counts}}


def check(report):
    injected = sum(count for fault, count in report["faults"].items() if fault not in ("none", "out of memory"))
    assert report["lost"] == []
    assert len(report["failures"]) == report["ends"]["failed"] == injected


def test_nothing_is_lost_and_every_failure_is_reported(tmp_path):
    report = run_jobs(tmp_path, seed=4, jobs=8)
    check(report)
    assert sum(report["jobs"].values()) == sum(report["faults"].values()) == 8
    assert report["failures"] and report["batches_halved"] > 0 and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_for_minutes(tmp_path):
    report = run_jobs(tmp_path)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1, ensure_ascii=False))
    check(report)
    assert report["memory"]["at_the_end_mib"] - report["memory"]["after_warm_up_mib"] < MAX_GROWTH


def test_a_lost_map_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(SceneWorker, "segment", lambda *_: Outcome("failed", error="It did not work."))
    monkeypatch.setattr("tests.test_soak.FAULTS", ("none",))
    assert "is sound and failed: It did not work." in "\n".join(run_jobs(tmp_path, seed=3, jobs=4)["lost"])


def test_a_fault_that_is_not_reported_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_soak.damage", lambda *_: None)
    monkeypatch.setattr("tests.test_soak.FAULTS", ("cut off",))
    lost = run_jobs(tmp_path, jobs=3)["lost"]
    assert lost and all("'cut off'" in line for line in lost)
