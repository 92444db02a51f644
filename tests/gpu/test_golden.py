"""The released models on the device: within the golden tolerances in float32, and how far from them with TF32."""

import json

import numpy as np
import pytest
import torch

from mm_ovseg.modeling.precision import allow_tf32
from tests.checkpoint.test_golden import (
    CASES,
    GRADIENT_TOLERANCE,
    MODEL_TABLES,
    NO_GRADIENT,
    SEEN_CLASSES,
    TOLERANCE,
    build_golden_model,
    golden_folder,
    pair_of,
    record_forward,
    sliced,
)


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    """(variant, golden values, norms of the gradients by their released names)."""
    name, _, _ = CASES[request.param]
    folder = golden_folder(name)
    norms = json.loads((folder / f"{name}.gradnorms.json").read_text())
    return request.param, dict(np.load(folder / f"{name}.npz")), norms


def deviation(ours, theirs):
    """||ours - golden|| / ||golden||."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def deviations(model, golden):
    """The relative deviation of every recorded tensor."""
    recorded = {key: tensor.cpu() for key, tensor in record_forward(model, pair_of(golden)).items()}
    compared = golden.keys() & recorded.keys()
    assert {"text", "clip_feat", "agg0_in", "agg0", "agg1", "logits"} <= compared
    return {key: deviation(sliced(key, recorded[key]), golden[key]) for key in compared}


def test_float32_gives_the_golden_values_and_tf32_nearly(golden, make_cfg, device, check):
    variant, values, _ = golden
    model = build_golden_model(variant, make_cfg).to(device)
    measured = deviations(model, values)
    check("logits, relative", measured.pop("logits"), TOLERANCE)
    check("the largest of the other tensors", max(measured.values()), TOLERANCE)
    allow_tf32(True)
    check("logits with TF32", deviations(model, values)["logits"])


def test_the_loss_and_its_gradients_are_the_golden_ones(golden, make_cfg, device, check):
    variant, values, norms = golden
    if variant == "vitl14":
        pytest.skip("the released code trains its frozen DINOv3 in a random mode")
    model = build_golden_model(variant, make_cfg).to(device).train()
    model.train_vocabulary = tuple(SEEN_CLASSES)
    pair = pair_of(values) | {"sem_seg": torch.from_numpy(values["target"].astype(np.int64))}
    with torch.no_grad():
        loss = model([pair])["loss_sem_seg"].item()
    check("loss, relative", abs(loss / float(values["loss"]) - 1), TOLERANCE)
    model.double()([pair])["loss_sem_seg"].backward()  # float64 as in tests/checkpoint/test_golden.py
    parameters, table = dict(model.named_parameters()), MODEL_TABLES[variant]
    pairs = [(parameters[table[name].targets[0]].grad.norm().item(), norm) for name, norm in norms.items()]
    assert all(ours <= 2 * NO_GRADIENT for ours, norm in pairs if norm <= NO_GRADIENT)
    worst = max(abs(ours / norm - 1) for ours, norm in pairs if norm > NO_GRADIENT)
    check("the worst norm of a gradient in float64, relative", worst, GRADIENT_TOLERANCE)
