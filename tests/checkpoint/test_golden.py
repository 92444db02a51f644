"""The released models, with seeded weights, give what the released code gave.

Relative error is ||ours - golden|| / ||golden||. The gradients are computed in float64: some units lie so close to the
kink of a ReLU that their side of it is decided by rounding, and with it up to 0.4% of the smallest gradient norms.
"""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from mm_ovseg.checkpoint.official import convert_official_state_dict
from mm_ovseg.checkpoint.rename_tables import MODEL_TABLES
from tests.conftest import RELEASED_SHAPES
from tests.golden_values import (
    CLASSES,
    GRADIENT_TOLERANCE,
    SEEN_CLASSES,
    TOLERANCE,
    check_equal,
    golden_folder,
    seeded,
    sliced,
)

CASES = {
    "vitb16": ("b16_ddsk", 11, "configs/mm_ovseg_vitb16_384.yaml"),
    "vitl14": ("l14_ddsk", 31, "configs/mm_ovseg_vitl14_336.yaml"),
    "catseg": ("catseg_b16_ddsk", 41, "configs/siblings/catseg_vitb16_384.yaml"),
    "gsnet": ("gsnet_b16_ddsk", 51, "configs/siblings/gsnet_vitb16_384.yaml"),
}
TRAINABLE_MILLIONS = {"vitb16": 31.17, "catseg": 25.12, "gsnet": 29.01}
SIZES = ((384, 384), (217, 530))  # height, width of the maps
# Below this a gradient is rounding: softmax takes no notice of the keys' bias in window attention, which has none.
NO_GRADIENT = 1e-10


def seeded_state_dict(variant, seed):
    shapes = json.loads(RELEASED_SHAPES.read_text())[variant]
    return {name: seeded(name, shapes[name], seed) for name, rename in MODEL_TABLES[variant].items() if rename.targets}


def build_golden_model(variant, make_cfg):
    _, seed, config = CASES[variant]
    model = build_model(make_cfg(config))
    model.load_state_dict(convert_official_state_dict(seeded_state_dict(variant, seed), variant))
    return model


def pair_of(golden):
    return {"image": torch.from_numpy(golden["rgb"]), "sar_image": torch.from_numpy(golden.get("sar", golden["rgb"]))}


def record_forward(model, pair):
    """Every tensor that there are golden values of, by their names, and the scores of each size."""
    recorded = {}
    head = model.sem_seg_head

    def prepare(clip, dino, prepare=head.prepare):
        recorded.update(clip_feat=clip.dense, app0=clip.dense, app1=clip.guidance[0], app2=clip.guidance[1])
        if dino is not None:
            recorded.update(dino_feat=dino.dense, dino1=dino.guidance[0], dino2=dino.guidance[1])
        return prepare(clip, dino)

    def record_text(_, inputs):
        recorded["text"] = inputs[1].transpose(0, 1)[None]  # (1, T, P, C)

    handles = [
        head.register_forward_pre_hook(record_text),
        head.register_forward_hook(lambda _, inputs, logits: recorded.update(logits=logits)),
        head.aggregator.register_forward_pre_hook(
            lambda _, inputs: recorded.update(agg0_in=inputs[0].transpose(1, 2))  # (B, C, T, h, w)
        ),
    ]
    for index, layer in enumerate(head.aggregator.classes):
        handles.append(
            layer.register_forward_hook(
                lambda _, inputs, output, index=index: recorded.update({f"agg{index}": output.transpose(1, 2)})
            )
        )
    model.eval().set_vocabulary(CLASSES)
    head.prepare = prepare
    scores = [model([{**pair, "height": height, "width": width}])[0]["sem_seg"] for height, width in SIZES]
    del head.prepare  # the class's own again
    for handle in handles:
        handle.remove()
    recorded["agg1_in"] = recorded["agg0"]
    return recorded, dict(zip(SIZES, scores, strict=True))


@contextmanager
def encoders_run_once(model):
    """Run the encoders, which take almost all the time, for the first image alone."""
    with pytest.MonkeyPatch.context() as patch:
        for encoder in (model.clip, model.dino, model.dino_sar):
            if encoder is not None:
                patch.setattr(encoder, "forward", cache(encoder.forward))
        yield


def cache(function):
    """The function, answering every call as the first."""
    results = []

    def call(*arguments):
        if not results:
            results.append(function(*arguments))
        return results[0]

    return call


@pytest.mark.parametrize("variant", CASES)
def test_the_table_has_every_tensor_of_the_released_model(variant):
    released = json.loads(RELEASED_SHAPES.read_text())[variant]
    table = MODEL_TABLES[variant]
    assert released.keys() <= table.keys()
    assert {name for name, rename in table.items() if rename.targets} <= released.keys()
    targets = [target for rename in table.values() for target in rename.targets]
    assert len(targets) == len(set(targets))


@pytest.mark.parametrize("variant", CASES)
def test_the_seeded_model_gives_the_golden_values(variant, make_cfg):
    name, _, _ = CASES[variant]
    folder = golden_folder(name)
    golden = dict(np.load(folder / f"{name}.npz"))
    model = build_golden_model(variant, make_cfg)
    pair = pair_of(golden)

    labelled = {**pair, "sem_seg": torch.from_numpy(golden["target"].astype(np.int64))}
    model.train_vocabulary = tuple(SEEN_CLASSES)
    with encoders_run_once(model):
        recorded, scores = record_forward(model, pair)
        with torch.no_grad():
            loss = model.train()([labelled])["loss_sem_seg"]
    compared = golden.keys() - {"rgb", "sar", "target", "loss"}
    assert {"text", "clip_feat", "agg0_in", "agg0", "agg1", "logits"} <= compared <= recorded.keys()
    for key in sorted(compared):
        check_equal(key, sliced(key, recorded[key]), golden[key])
    for size, ours in scores.items():
        theirs = F.interpolate(torch.from_numpy(golden["logits"]).sigmoid(), size, mode="bilinear")[0]
        assert ours.shape == theirs.shape, size
        assert (ours - theirs).norm() <= TOLERANCE * theirs.norm(), size

    norms = json.loads((folder / f"{name}.gradnorms.json").read_text())
    table = MODEL_TABLES[variant]
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning.keys() == {target for name in norms for target in table[name].targets}
    if variant == "vitl14":
        return  # the released code trains its frozen DINOv3 in a random mode
    millions = sum(parameter.numel() for parameter in learning.values()) / 1e6
    assert millions == pytest.approx(TRAINABLE_MILLIONS[variant], abs=0.005)

    assert loss.item() == pytest.approx(float(golden["loss"]), rel=TOLERANCE)
    loss = model.double()([labelled])["loss_sem_seg"]
    assert loss.item() == pytest.approx(float(golden["loss"]), rel=TOLERANCE)
    loss.backward()
    for released, norm in norms.items():
        (target,) = table[released].targets
        assert learning[target].grad.norm().item() == pytest.approx(norm, rel=GRADIENT_TOLERANCE, abs=NO_GRADIENT), (
            target
        )
