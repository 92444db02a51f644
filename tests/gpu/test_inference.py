"""Mixed precision, compiled blocks and batches of windows, with what they change."""

import numpy as np
import pytest
import rasterio
import torch

from mm_ovseg.engine import load_config
from mm_ovseg.inference import ScenePredictor
from mm_ovseg.inference.scene import SceneOptions
from shipped_pair import SCENES
from tests.conftest import ROOT

DRAWN = SCENES["drawn"]
CLASSES = ("city", "road", "forest", "water", "farmland")
# Largest absolute deviation from float32: of cosines between normalised tokens, or of scores, both at most 1.
PRECISION_TOLERANCE = {"bfloat16": 0.05, "float16": 0.01}
COMPILED_TOLERANCE = 1e-3


@torch.no_grad()
def outputs(workload):
    """What a model gives in evaluation mode, as one tensor on the CPU."""
    results = workload.build_model().eval()(workload.random_batch())
    tensors = [
        torch.stack([*result["image_tokens"], *result["sar_tokens"]]) if "valid" in result else result["sem_seg"]
        for result in results
    ]
    assert all(tensor.dtype == torch.float32 and tensor.device.type == workload.device.type for tensor in tensors)
    return torch.stack(tensors).cpu()


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_changes_little(make_workload, check, device, stage, dtype):
    if dtype == "float16" and device.type == "cpu":
        pytest.skip("CPUs only emulate float16, so the package refuses it there")
    deviation = outputs(make_workload(stage, "MODEL.INFERENCE_DTYPE", dtype)) - outputs(make_workload(stage))
    assert deviation.any()
    check("largest deviation", deviation.abs().max().item(), PRECISION_TOLERANCE[dtype])


@pytest.mark.parametrize("stage", [1, 2])
def test_compiled_blocks_change_little(make_workload, check, stage):
    deviation = outputs(make_workload(stage, "MODEL.COMPILE", True)) - outputs(make_workload(stage))
    check("largest deviation", deviation.abs().max().item(), COMPILED_TOLERANCE)


def test_windows_in_batches_make_the_map_of_single_windows(check, device, tmp_path):
    predictor = ScenePredictor(
        load_config(ROOT / DRAWN.config, ["MODEL.DEVICE", str(device)], needs_datasets=False), CLASSES
    )
    layers = {}
    for size in (1, 4):
        output = tmp_path / f"{size}.tif"
        predictor.segment(
            ROOT / DRAWN.rgb["clear"],
            ROOT / DRAWN.sar,
            output,
            SceneOptions(batch_size=size, probabilities=True),
        )
        layers[size] = [read(path) for path in (output, output.with_name(f"{size}_probabilities.tif"))]
    (single, single_percent), (batched, batched_percent) = layers[1], layers[4]
    assert len(np.unique(single)) == len(CLASSES)
    check("pixels of another class, share", (single != batched).mean(), 1e-3)
    check("largest deviation of a score, percent", np.abs(single_percent - batched_percent).max(), 1)


def read(path):
    with rasterio.open(path) as file:
        return file.read().astype(np.int64)
