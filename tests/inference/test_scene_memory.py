"""The memory of segmenting a scene does not grow with its height."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT, load_tool
from tests.patience import PATIENCE

WIDTH, HEIGHTS = 1536, (1536, 9216)
# What the taller scene has more would take 47 MB as one layer of float32, and twice that as the scores of both classes.
MAX_GROWTH = 30.0  # MB

# All but the model, whose memory depends on the window alone, is what users run. GDAL's caches hold up to 256 MB of any
# scene, which these would not fill, so they are made small.
SEGMENT = """
import sys
import threading
from pathlib import Path
import torch
from mm_ovseg.efficiency.machine import peak_memory
from mm_ovseg.data import scene_source
from mm_ovseg.decision import Decision
from mm_ovseg.engine import load_config
from mm_ovseg.inference import areas, scene
from mm_ovseg.raster import cog

class StubPredictor:
    def __init__(self, cfg, class_names, **options):
        self.decision, self.lock = Decision(class_names), threading.RLock()

    def model(self, items):
        return [{"sem_seg": torch.stack([item["image"][0], item["sar_image"][0]]) / 255} for item in items]

    model.needs_sar = model.bounded_scores = True

scene.Predictor = StubPredictor
scene_source.GDAL_CACHE_BYTES = areas.CACHE_BYTES = cog.CACHE_BYTES = 4 << 20
folder = Path(sys.argv[1])
overrides = ["MODEL.DEVICE", "cpu", "INPUT.SAR.SCALE", "db"]
predictor = scene.ScenePredictor(load_config("projects/laptop/configs/mm_ovseg.yaml", overrides), ["bright", "rough"])
options = scene.SceneOptions(window=256, overlap=0.1, confidence=True)
report = predictor.segment(folder / "rgb.tif", folder / "sar.tif", folder / "map.tif", options)
print(report["grid"]["height"], peak_memory(torch.device("cpu"), 0.0)["peak_rss_mb"])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="a child's peak is told by Linux alone")
def test_the_peak_of_a_tall_scene_is_that_of_a_short_one(tmp_path):
    # One thread and one heap, so that chance decides less about the peak.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    peaks = []
    for height in HEIGHTS:
        folder = tmp_path / str(height)
        folder.mkdir()
        load_tool("benchmarks/drawn_data").write_scene_pair(folder, height, WIDTH)
        done = subprocess.run(
            [sys.executable, "-c", SEGMENT, folder],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        mapped, peak = done.stdout.split()
        assert int(mapped) == height
        peaks.append(float(peak))
    assert peaks[1] - peaks[0] < MAX_GROWTH, peaks
