"""The released FGAseg, with seeded weights, gives what the released code gave (golden/README.md)."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from mm_ovseg.baselines.fgaseg import meta_arch
from mm_ovseg.checkpoint.official import convert_official_state_dict
from mm_ovseg.checkpoint.rename_tables import MODEL_TABLES
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
from tests.test_configs import WITHOUT_FILES, read

NAME, SEED, CONFIG = "fgaseg_b16", 81, "configs/siblings/fgaseg_vitb16_384.yaml"
ROUNDING = 1e-7  # golden gradient norms below it are zeros
SIZE = (384, 384)
NEARLY_EQUAL = 2e-6  # scores


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(golden_folder(NAME) / f"{NAME}.npz"))


@pytest.fixture(scope="module")
def released():
    return json.loads((golden_folder(NAME) / f"{NAME}.keys.json").read_text())


@pytest.fixture(scope="module")
def loaded(released):
    model = build_model(read(CONFIG, *WITHOUT_FILES))
    buffers = {name: torch.zeros(shape) for name, shape in released["state_dict"]}
    buffers |= {name: torch.ones(shape) for name, shape in released["state_dict"] if name.endswith("running_var")}
    state_dict = buffers | {name: seeded(name, shape, SEED) for name, shape in released["parameters"]}
    model.load_state_dict(convert_official_state_dict(state_dict, "fgaseg"))
    return model.eval()


@pytest.fixture
def model(loaded):
    return copy.deepcopy(loaded)


def record(head):
    """Every tensor of an evaluation that there are golden values of, as hooks record them in the returned dict."""
    recorded = {}

    def keep(module, name, output_of=lambda output: output):
        module.register_forward_hook(lambda _, inputs, output: recorded.update({name: output_of(output)}))

    def keep_input(module, name):
        module.register_forward_pre_hook(lambda _, inputs: recorded.update({name: inputs[0].transpose(1, 2)}))

    def prepare(clip, dino, prepare=head.prepare):
        recorded.update(clip_feat=clip.dense, app0=clip.dense, app1=clip.guidance[0], app2=clip.guidance[1])
        return prepare(clip, dino)

    def record_text(_, inputs):
        recorded["text"] = inputs[1].transpose(0, 1)[None]  # (1, T, P, C)

    def by_channel(output):
        return output.transpose(1, 2)  # (B, D, T, h, w)

    head.prepare = prepare
    head.register_forward_pre_hook(record_text)
    keep(head, "logits")
    keep(head.text_refinement, "text_p2t", lambda output: output[:, :, None])
    keep(head.local_correlation, "corr_local")
    keep(head.cost_volume_embedding, "emb_global", by_channel)
    keep(head.local_embedding, "emb_local", by_channel)
    keep_input(head.aggregator, "agg0_in")
    keep(head.aggregator.classes[0], "agg0", by_channel)
    keep(head.aggregator.classes[1], "agg1", by_channel)
    first, second = head.decoder.upsamplings
    keep_input(first, "dec1_in")
    keep(first, "dec1", by_channel)
    keep(head.local_upsampling, "local_up", by_channel)
    keep_input(second, "dec2_in")
    keep(second, "dec2", by_channel)
    return recorded


def image_of(golden):
    return {"image": torch.from_numpy(golden["rgb"])}


@torch.no_grad()
def test_evaluation(model, golden):
    recorded = record(model.sem_seg_head)
    model.set_vocabulary(CLASSES)
    [output] = model([image_of(golden)])
    recorded["align"] = model.sem_seg_head.alignment(recorded["clip_feat"], recorded["text_p2t"][:, :, 0])[
        ..., ::3, ::3
    ]
    kept_whole = ("text_p2t", "corr_local", "align")
    for name, tensor in recorded.items():
        check_equal(name, tensor.numpy() if name in kept_whole else sliced(name, tensor), golden[name])
    others = {"rgb", "target", "loss", "loss_parts", "many_out", "many_kept", "sliding"}
    assert golden.keys() - recorded.keys() == others | {name for name in golden if name.startswith("train_")}
    expected = F.interpolate(torch.from_numpy(golden["logits"]).sigmoid(), SIZE, mode="bilinear")[0]
    assert (output["sem_seg"] - expected).norm() <= TOLERANCE * expected.norm()
    # With these weights the classes are nearly equal: of 10,000 places, 7 have two that rounding cannot tell apart.
    best = expected.topk(2, dim=0).values
    differs = output["sem_seg"].argmax(0) != expected.argmax(0)
    assert not differs[best[0] - best[1] > NEARLY_EQUAL].any()


@torch.no_grad()
def test_many_classes_are_pruned(model, golden):
    recorded = record(model.sem_seg_head)
    model.set_vocabulary([f"class {index}" for index in range(40)])
    [output] = model([image_of(golden)])
    scores = recorded["logits"].sigmoid()
    check_equal("many_out", scores[..., ::6, ::6].numpy(), golden["many_out"])
    assert ((scores[0] > 1e-20).any(dim=(1, 2)).numpy() == golden["many_kept"]).all()
    assert 16 < golden["many_kept"].sum() < 40
    assert output["sem_seg"].shape == (40, *SIZE)


@torch.no_grad()
def test_sliding_windows(model, golden, monkeypatch):
    model.set_vocabulary(CLASSES)
    model.sliding_window = True
    once = meta_arch.scores_of_size
    monkeypatch.setattr(meta_arch, "scores_of_size", lambda *arguments: once(*arguments).sigmoid())  # as released
    [output] = model([image_of(golden)])
    check_equal("sliding", output["sem_seg"][:, ::3, ::3].numpy(), golden["sliding"])


def test_training(model, golden, released):
    head, recorded = model.sem_seg_head, {}
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    table = MODEL_TABLES["fgaseg"]
    assert learning.keys() == {target for name in released["trainable"] for target in table[name].targets}
    assert len(learning) == 223
    assert sum(parameter.numel() for parameter in learning.values()) / 1e6 == pytest.approx(33.77, abs=0.005)

    predict, align = head.predict, head.alignment.forward
    head.predict = lambda *inputs: recorded.setdefault("output", predict(*inputs))
    head.alignment.forward = lambda *inputs: recorded.setdefault("align", align(*inputs))
    model.train_vocabulary = tuple(SEEN_CLASSES)
    target = torch.from_numpy(golden["target"].astype(np.int64))
    losses = model.train()([{**image_of(golden), "sem_seg": target}])
    output = recorded["output"]
    for name, tensor in zip(
        ("logits", "aux0", "aux1", "aux2", "align"),
        (output.logits, *output.auxiliary, recorded["align"]),
        strict=True,
    ):
        check_equal(f"train_{name}", tensor.detach()[..., ::3, ::3].numpy(), golden[f"train_{name}"])
    weights = (1, 0.2, 1, 1, 0.02)
    assert list(losses) == ["loss_sem_seg", *(f"loss_auxiliary_{index}" for index in range(3)), "loss_align"]
    for loss, weight, part in zip(losses.values(), weights, golden["loss_parts"], strict=True):
        assert loss.item() == pytest.approx(weight * part, rel=TOLERANCE)
    total = sum(losses.values())
    assert total.item() == pytest.approx(float(golden["loss"]), rel=TOLERANCE)

    total.backward()
    norms = json.loads((golden_folder(NAME) / f"{NAME}.gradnorms.json").read_text())
    for name, norm in norms.items():
        [target] = table[name].targets
        gradient = learning[target].grad.norm().item()
        if norm < ROUNDING:
            assert gradient < ROUNDING, target
        else:
            assert gradient == pytest.approx(norm, rel=GRADIENT_TOLERANCE), target
