"""The released EBSeg, with seeded weights, gives what the released code gave (golden/README.md)."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from mm_ovseg.baselines.ebseg import losses, matching, meta_arch
from mm_ovseg.checkpoint.official import convert_official_state_dict, detect_variant
from mm_ovseg.checkpoint.rename_tables import MODEL_TABLES
from mm_ovseg.engine import load_config
from mm_ovseg.errors import CheckpointError
from tests.conftest import ROOT
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

NAME, SEED = "ebseg_b16", 71
TABLE = MODEL_TABLES["ebseg"]
CONFIG = ROOT / "configs" / "siblings" / "ebseg_vitb16_640.yaml"
GRID = 112  # cells a side, whose centres replace random points
WRONG_PIXELS = 1e-4  # share of a label map that may differ
WHOLE = ("clip9_cls", "text", "logits")


@pytest.fixture(scope="module")
def folder():
    return golden_folder(NAME)


@pytest.fixture(scope="module")
def golden(folder):
    return dict(np.load(folder / f"{NAME}.npz"))


@pytest.fixture(scope="module")
def released(folder):
    """The released state dict. What it stores twice is the extractor's."""
    content = json.loads((folder / f"{NAME}.keys.json").read_text())
    parameters = {name for name, _ in content["parameters"]}
    state_dict = {}
    for name, shape in content["state_dict"]:
        source = name if name in parameters else name.replace("clip_rec_head.", "clip_visual_extractor.")
        state_dict[name] = seeded(source, shape, SEED) if source in parameters else torch.zeros(shape)
    return state_dict


@pytest.fixture(scope="module")
def model(released):
    overrides = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", (), "DATASETS.TEST", ()]
    model = build_model(load_config(CONFIG, overrides))
    model.load_state_dict(convert_official_state_dict(released, "ebseg"))
    model.train_vocabulary = tuple(SEEN_CLASSES)
    model.eval().set_vocabulary(CLASSES)
    return model


@pytest.fixture
def recorded(model, monkeypatch):
    """What the parts of the model return, by golden name, once it has run."""
    results = {}

    def record(owner, name, save):
        function = getattr(owner, name)

        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            save(result)
            return result

        monkeypatch.setattr(owner, name, call)

    def save_clip(features):
        results.update(zip(("clip3", "clip6", "clip9"), features.maps, strict=True))
        results.update(clip9_cls=features.tokens[:, :1], clip_surgery=features.surgery)

    def save_decoded(decoded):
        levels, results["mask_features"] = decoded
        results.update({f"ms{index}": level for index, level in enumerate(levels)})

    head = model.sem_seg_head
    record(model.clip, "forward", save_clip)
    record(model.sam, "forward", lambda maps: results.update({f"sam_res{i}": x for i, x in enumerate(maps, 2)}))
    record(head.fusion, "forward", lambda maps: results.update({f"fused_res{i}": x for i, x in enumerate(maps, 3)}))
    record(head.pixel_decoder, "forward", save_decoded)
    record(head.transformer_decoder, "forward", lambda stages: results.update(stages=stages))
    record(model.clip, "recognize", lambda result: results.update(sos=result[0], clip_final=result[1]))
    record(meta_arch, "mask_pooled", lambda pooled: results.update(pooled=pooled))
    record(model, "class_logits", lambda logits: results.setdefault("compared", []).append(logits))
    record(meta_arch, "balanced_class_scores", lambda log_scores: results.update(mask_cls=log_scores))
    return results


def regular_points(count, like):
    """The centres of the cells of a grid, (count, 112 * 112, 2)."""
    centre = (torch.arange(GRID) + 0.5) / GRID
    return torch.cartesian_prod(centre, centre).flip(-1).to(like).expand(count, -1, -1)


def image_of(golden, size):
    return F.interpolate(torch.from_numpy(golden["rgb"])[None].float(), size, mode="bilinear", align_corners=False)[0]


def check(golden, key, ours):
    check_equal(key, ours.numpy(), golden[key])


def check_label_map(ours, theirs):
    assert (ours.argmax(0).numpy() != theirs.argmax(0)).mean() <= WRONG_PIXELS


def test_every_tensor_of_the_release_is_accounted_for(released, model):
    assert len(released) == 800 and detect_variant(released) == "ebseg"
    assert released.keys() == TABLE.keys()
    targets = [target for rename in TABLE.values() for target in rename.targets]
    assert sorted(targets) == sorted(model.state_dict())
    assert all(rename.targets or rename.reason for rename in TABLE.values())
    more_classes = {**released, "criterion.empty_weight": torch.zeros(172)}
    assert convert_official_state_dict({"model": more_classes}).keys() == set(targets)
    with pytest.raises(CheckpointError, match="1 missing .ov_classifier.bg_embed"):
        convert_official_state_dict({name: x for name, x in released.items() if name != "ov_classifier.bg_embed"})
    with pytest.raises(CheckpointError, match="already has the names"):
        convert_official_state_dict(model.state_dict())


def test_evaluation(model, golden, recorded):
    item = {"image": image_of(golden, (640, 640)), "height": 320, "width": 320}
    scores = model([item])[0]["sem_seg"]
    assert recorded["clip_surgery"].shape == (1, 401, 768)
    check(golden, "clip_surgery", recorded["clip_surgery"].transpose(0, 1)[::7, :, ::12])
    whole_text = torch.cat([model.class_text(CLASSES), F.normalize(model.no_object.detach(), dim=-1)])
    check(golden, "text", whole_text)
    for key in ("clip3", "clip6", "clip9", "clip_final", "mask_features", "ms0", "ms1", "ms2"):
        check_equal(key, sliced(key, recorded[key]), golden[key])
    for key in ("sam_res2", "sam_res3", "sam_res4", "sam_res5", "fused_res3", "fused_res4", "fused_res5"):
        check_equal(key, sliced(key, recorded[key]), golden[key])
    for key in ("clip9_cls", "sos", "pooled", "mask_cls"):
        check(golden, key, recorded[key])
    decoder, features = model.sem_seg_head.transformer_decoder, recorded["mask_features"]
    with torch.no_grad():
        for index in (0, 1, 9):
            stage = recorded["stages"][index]
            check(golden, f"mask_embed{index}", decoder.class_embeddings(stage, features))
            check_equal(f"pred_mask{index}", sliced("pred_mask", stage.masks), golden[f"pred_mask{index}"])
        for index in (0, 9):
            bias = decoder.attention_bias(recorded["stages"][index].embeddings, features)
            assert bias.shape == (1, 12, 100, 160, 160)
            check(golden, f"attn_bias{index}", bias[:, ::4, ::10, ::8, ::8])
    for key, logits in zip(("mask_logits", "pooled_logits", "mask_logits_clip"), recorded["compared"], strict=True):
        check(golden, key, logits)
    check(golden, "logits", scores[None])
    check_label_map(scores, golden["logits"][0])


@pytest.fixture
def sharpened(model):
    """The model with queries that differ, and with the scales of trained weights."""
    decoder = model.sem_seg_head.transformer_decoder
    changed = [model.logit_scale, decoder.logit_scale, decoder.query_feat.weight, decoder.query_embed.weight]
    before = [parameter.detach().clone() for parameter in changed]
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100))
        decoder.logit_scale.fill_(1)
        decoder.query_feat.weight.mul_(16)
        decoder.query_embed.weight.mul_(16)
    yield model
    with torch.no_grad():
        for parameter, value in zip(changed, before, strict=True):
            parameter.copy_(value)


def test_evaluation_with_queries_that_differ(sharpened, golden, recorded):
    scores = sharpened([{"image": torch.from_numpy(golden["rgb"]), "height": 128, "width": 128}])[0]["sem_seg"]
    decoder, features = sharpened.sem_seg_head.transformer_decoder, recorded["mask_features"]
    with torch.no_grad():
        for index in (0, 3, 6, 9):
            embeddings = decoder.class_embeddings(recorded["stages"][index], features)
            check(golden, f"sharp_mask_embed{index}", embeddings[:, ::4])
    check(golden, "sharp_pred_mask9", recorded["stages"][9].masks[:, ::4, ::4, ::4])
    check(golden, "sharp_sos", recorded["sos"][:, ::4])
    check(golden, "sharp_mask_cls", recorded["mask_cls"])
    check(golden, "sharp_logits", scores[None])
    check_label_map(scores, golden["sharp_logits"][0])


def test_training(model, folder, golden, recorded, monkeypatch):
    monkeypatch.setattr(matching, "random_points", lambda count, points, like: regular_points(count, like))
    monkeypatch.setattr(losses, "uncertain_points", lambda masks: regular_points(masks.shape[0], masks))
    matches = []
    monkeypatch.setattr(losses, "assign", lambda *args: matches.append(matching.assign(*args)) or matches[0])
    norms = json.loads((folder / f"{NAME}.gradnorms.json").read_text())
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(norms) == 324 and learning.keys() == {name for old in norms for name in TABLE[old].targets}
    millions = sum(parameter.numel() for parameter in learning.values()) / 1e6
    assert millions == pytest.approx(26.62, abs=0.005)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(261.83, abs=0.005)

    item = {"image": torch.from_numpy(golden["rgb"]), "sem_seg": torch.from_numpy(golden["target"].astype(np.int64))}
    terms = model.train()([item])
    model.eval()
    total = sum(terms.values())
    assert set(terms) == set(golden["loss_part_names"])
    for name, part in zip(golden["loss_part_names"], golden["loss_parts"], strict=True):
        assert terms[name].item() == pytest.approx(part, rel=TOLERANCE), name
    assert total.item() == pytest.approx(float(golden["loss"]), rel=TOLERANCE)
    (match,) = matches
    assert match.found.all()
    pairs = [dict(zip(t, q, strict=True)) for q, t in zip(golden["match_query"], golden["match_target"], strict=True)]
    assert [dict(enumerate(queries)) for queries in match.query[:, 0].numpy()] == pairs
    last = recorded["stages"][-1]
    with torch.no_grad():
        embeddings = model.sem_seg_head.transformer_decoder.class_embeddings(last, recorded["mask_features"])
    check(golden, "train_mask_embed9", embeddings)
    check_equal("train_pred_mask9", sliced("mask", last.masks.detach()), golden["train_pred_mask9"])
    check(golden, "train_sos", recorded["sos"].detach()[:, -100:])

    total.backward()
    for name, norm in norms.items():
        (target,) = TABLE[name].targets
        assert learning[target].grad.norm().item() == pytest.approx(norm, rel=GRADIENT_TOLERANCE), target
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
    model.zero_grad()
