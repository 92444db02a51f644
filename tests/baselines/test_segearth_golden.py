"""SegEarth-OV with seeded weights gives what the released code gave; golden/README.md describes the values."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from mm_ovseg.baselines.segearth import segmenter
from mm_ovseg.checkpoint.official import convert_official_state_dict
from mm_ovseg.engine import load_config
from tests.conftest import ROOT
from tests.golden_values import CLASSES, check_equal, golden_folder, seeded, sliced

NAME, SEED = "segearth_b16", 61
SYNONYMS = ["city,urban area", "road", "forest,trees,woodland", "water,river", "farmland"]
QUERIES = [query for name in SYNONYMS for query in name.split(",")]
LABELS_APART = 1e-4  # share of pixels


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(golden_folder(NAME) / f"{NAME}.npz"))


@pytest.fixture(scope="module")
def keys():
    return json.loads((golden_folder(NAME) / f"{NAME}.keys.json").read_text())


@pytest.fixture(scope="module")
def model(keys):
    """The model of the config as it is, which embeds each name once for all tests."""
    words = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    model = build_model(load_config(ROOT / "configs/siblings/segearth_ov_vitb16.yaml", words)).eval()
    published = {name: seeded(name, shape, SEED) for name, shape in keys["state_dict"]}
    model.load_state_dict(convert_official_state_dict(published, "segearth"))
    with torch.no_grad():
        embeddings = model.text.embed(QUERIES)
    model.text.embed = lambda names: embeddings[:, [QUERIES.index(name) for name in names]]
    return model


def noting(results, function):
    """The function, whose results are kept."""
    return lambda *arguments: results.append(function(*arguments)) or results[-1]


@pytest.fixture(scope="module")
def recorded(model, golden):
    """Every tensor that there are golden values of, by their names, from one image in nine windows."""
    calls = {name: [] for name in ("encode_tokens", "double", "upsample", "compare_windows", "compare_images")}
    with pytest.MonkeyPatch.context() as patch:
        for name, noted in calls.items():
            owner = {"encode_tokens": segmenter, "double": model.upsampler}.get(name, model)
            patch.setattr(owner, name, noting(noted, getattr(owner, name)))
        model.set_vocabulary(CLASSES)
        (output,) = model([{"image": torch.from_numpy(golden["rgb"])}])
    tensors = {"logits": calls["compare_images"][0][0][None], "scores": output["sem_seg"]}
    for window in (0, 8):
        whole, tokens = calls["encode_tokens"][window]
        tensors[f"win{window}_cls"] = F.normalize(whole, dim=1)
        tensors[f"win{window}_tokens"] = tokens.permute(0, 3, 1, 2)
        tensors[f"win{window}_up"] = F.normalize(calls["upsample"][window], dim=-1).permute(0, 3, 1, 2)
        tensors[f"win{window}_logits"] = calls["compare_windows"][window][..., ::3, ::3]
    for step, features in enumerate(calls["double"][:4], start=1):
        tensors[f"win0_up{2**step}"] = features.permute(0, 3, 1, 2)
    return tensors


def sliced_more(name, tensor):
    """The largest features keep every sixth row and column."""
    kept = sliced(name, tensor)
    return kept[..., ::2, ::2] if name.endswith(("_up", "_up16")) else kept


def check_labels(scores, golden):
    assert scores.shape[1:] == golden.shape
    assert np.mean(scores.argmax(dim=0).numpy() != golden) <= LABELS_APART


def test_every_tensor_has_its_place_and_none_is_trained(model, keys):
    assert keys["trainable"] == [] == [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    total = sum(np.prod(shape, dtype=int) for _, shape in keys["parameters"])
    unused = 1  # CLIP's temperature
    assert sum(parameter.numel() for parameter in model.parameters()) == total - unused
    assert total / 1e6 == pytest.approx(149.91, abs=0.005)
    assert sum(parameter.numel() for parameter in model.upsampler.parameters()) == 293_729


def test_text(model, golden):
    with torch.no_grad():
        check_equal("text", model.embed_queries(CLASSES)[0].numpy(), golden["text"])
        queries, counts = model.embed_queries(SYNONYMS)
    check_equal("syn_text", queries.numpy(), golden["syn_text"])
    assert counts == [2, 1, 3, 2, 1]


def test_every_tensor(recorded, golden):
    compared = {name for name in golden if name.startswith("win")} | {"logits"}
    assert len(compared) == 13 and compared <= recorded.keys()
    for name in sorted(compared):
        check_equal(name, sliced_more(name, recorded[name]), golden[name])


def test_labels(model, recorded, golden, monkeypatch):
    check_labels(recorded["scores"], golden["pred"])
    monkeypatch.setattr(model, "compare_images", lambda *_: [recorded["logits"][0]])
    monkeypatch.setattr(model, "threshold", float(golden["prob_thd"]))
    monkeypatch.setattr(model, "background", CLASSES[4])
    model.set_vocabulary(CLASSES)
    (output,) = model([{"image": torch.from_numpy(golden["rgb"])}])
    check_labels(output["sem_seg"], golden["pred_thd"])
    assert np.mean(golden["pred"] != golden["pred_thd"]) > 0.01


def test_an_image_as_a_whole(model, golden, monkeypatch):
    calls = []
    monkeypatch.setattr(segmenter, "encode_tokens", noting(calls, segmenter.encode_tokens))
    monkeypatch.setattr(model, "compare_images", noting(calls, model.compare_images))
    monkeypatch.setattr(model, "window", 0)
    model.set_vocabulary(CLASSES)
    model([{"image": torch.from_numpy(golden["rgb"])}])
    (_, tokens), (logits,) = calls
    check_equal("whole_tokens", sliced("whole_tokens", tokens.permute(0, 3, 1, 2)), golden["whole_tokens"])
    check_equal("whole_logits", logits[None, :, ::6, ::6].numpy(), golden["whole_logits"])


def test_synonyms(model, golden):
    model.set_vocabulary(SYNONYMS)
    (output,) = model([{"image": torch.from_numpy(golden["rgb"])[:, :224, :224]}])
    check_equal("syn_prob", output["sem_seg"][None, :, ::3, ::3].numpy(), golden["syn_prob"])
    check_labels(output["sem_seg"], golden["syn_pred"])
