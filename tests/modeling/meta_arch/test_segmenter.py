"""Encoding once and answering for any names, by every model that segments."""

import pytest
import torch
from detectron2.modeling import build_model

from mm_ovseg.errors import VocabularyError
from tests.attention_kernels import check_attention_is_fused
from tests.conftest import random_pair
from tests.rehearsal.device import tiny_cfg

NAMES, OTHERS = ["city", "water, river", "forest"], ["burnt forest", "road"]
MM_OVSEG, FGASEG = "configs/mm_ovseg_vitb16_384.yaml", "configs/siblings/fgaseg_vitb16_384.yaml"
MODELS = {
    "MMOVSeg": (MM_OVSEG, []),
    "MMOVSeg with CLIP on SAR": (MM_OVSEG, ["MODEL.CLIP_SAR.ENABLED", True]),
    "FGAseg": (FGASEG, ["MODEL.FGASEG.SLIDING_WINDOW", False]),
    "FGAseg by windows": (FGASEG, ["MODEL.FGASEG.SLIDING_WINDOW", True]),
    "EBSeg": ("configs/siblings/ebseg_vitb16_640.yaml", []),
    "SegEarthOV": ("configs/siblings/segearth_ov_vitb16.yaml", ["MODEL.TEXT.TEMPLATES", ["a {}.", "the {}."]]),
}
ENCODERS = ("clip", "clip_sar", "dino", "dino_sar", "sam", "visual")


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    config, overrides = MODELS[request.param]
    torch.manual_seed(0)
    return build_model(tiny_cfg(config, "MODEL.DEVICE", "cpu", *overrides)).eval()


def batch_of_all_kinds():
    """Pairs of several sizes, of RGB, SAR or both, everywhere or in parts, and outputs of other sizes."""
    nowhere, left = torch.zeros(48, 64, dtype=torch.bool), torch.arange(64).expand(48, 64) < 30
    return [
        random_pair(48, 64, 0),
        {**random_pair(33, 20, 1), "sar_image": None, "height": 40, "width": 50},
        {**random_pair(48, 64, 2), "image_valid": nowhere},
        {**random_pair(48, 64, 3), "image_valid": left, "sar_valid": ~left},
        {**random_pair(48, 64, 4), "image_valid": left},
        random_pair(70, 90, 5),
    ]


def fresh(model, names, items):
    """The scores of a call with the images."""
    model.set_vocabulary(names)
    return [output["sem_seg"] for output in model(items)]


def test_an_encoded_batch_is_answered_for_any_names_as_the_images_are(model):
    batch = batch_of_all_kinds()
    for items in (batch, batch[1:2], batch[2:3], batch[3:4]):
        encoded = model.encode(items)
        for names in (OTHERS, NAMES):
            expected = fresh(model, names, items)
            model.set_vocabulary(names)
            for item, ours, theirs in zip(encoded, model.answer(encoded), expected, strict=True):
                assert torch.equal(ours, theirs) and ours.shape == (len(names), *item.size)
                assert ours.dtype == torch.float32


def test_a_second_answer_runs_no_image_encoder(model):
    items, calls = batch_of_all_kinds()[:1], []
    encoded = model.encode(items)
    encoders = [encoder for name in ENCODERS if (encoder := getattr(model, name, None)) is not None]
    for encoder in encoders:
        for module in encoder.modules():
            module.register_forward_hook(lambda module, *_: calls.append(module))
    model.set_vocabulary(OTHERS)
    model.answer(encoded)
    assert encoders and not calls
    model.encode(items)
    assert calls


def test_answers_need_no_images_and_leave_the_features_as_they_are(model):
    items = batch_of_all_kinds()[1:4]
    expected, encoded = fresh(model, OTHERS, items), model.encode(items)
    tensors = [tensor for item in encoded for kind in item.features.values() for tensor in kind.values()]
    before = [tensor.clone() for tensor in tensors]
    for item in items:
        for image in (item["image"], item["sar_image"]):
            if image is not None:
                image.zero_()
    assert all(map(torch.equal, model.answer(encoded), expected))
    assert all(map(torch.equal, tensors, before))


def test_features_keep_the_precision_of_the_model(model, monkeypatch):
    monkeypatch.setattr(model, "inference_dtype", torch.bfloat16)
    items = batch_of_all_kinds()[1:4]
    expected, encoded = fresh(model, NAMES, items), model.encode(items)
    assert all(map(torch.equal, model.answer(encoded), expected))


def test_without_names_there_is_no_answer(model, monkeypatch):
    encoded = model.encode(batch_of_all_kinds()[:1])
    monkeypatch.setattr(model, "vocabulary", ())
    with pytest.raises(VocabularyError, match="no class names"):
        model.answer(encoded)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_runs_fused_kernels(model, dtype, monkeypatch):
    model.set_vocabulary(["city", "road", "forest"])
    monkeypatch.setattr(model, "inference_dtype", dtype)
    check_attention_is_fused(lambda: model([random_pair(64, 64)]))
