import sys

import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import load_file

import pretrain
from laptop.drawn_world import write_synthetic_dataset
from tests.conftest import ROOT

pytest.importorskip("lightly", reason="needs mm_ovseg[experiment]")
TINY = ("MODEL.DENSE_ENCODER.ARGUMENTS.patch_size", "8", "MODEL.DENSE_ENCODER.ARGUMENTS.embed_dim", "16")
TINY += ("MODEL.DENSE_ENCODER.ARGUMENTS.num_heads", "2")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.chdir(ROOT)
    write_synthetic_dataset(tmp_path / "laptop" / "region_a", num_train=3, num_val=0, size=112)

    def run_tool(encoder, iterations, output="weights.safetensors", seed=0, config=None):
        path = tmp_path / output
        batch_size = 48 if encoder == "clip" else 8
        arguments = [encoder, "--dataset", "laptop_clear_train", "--output", path, "--seed", seed]
        arguments += ["--iterations", iterations, "--batch-size", batch_size, "--opts", *TINY]
        arguments = [*(["--config-file", config] if config else []), *arguments]
        monkeypatch.setattr(sys, "argv", ["pretrain.py", *map(str, arguments)])
        pretrain.main()
        return path, capsys.readouterr().out

    return run_tool


@pytest.mark.parametrize("encoder", ["clip", "dense"])
def test_training_lowers_the_loss_and_the_weights_fit_the_model(run, make_cfg, encoder):
    path, output = run(encoder, 60 if encoder == "clip" else 30)
    last, first = (float(word) for word in output.split("loss ")[1].split() if word[0].isdigit())
    assert last < 0.9 * first
    key = "MODEL.CLIP.PRETRAINED" if encoder == "clip" else "MODEL.DENSE_ENCODER.PRETRAINED"
    model = build_model(make_cfg("projects/laptop/configs/mm_ovseg.yaml", *TINY, key, str(path)))
    state = load_file(path)
    if encoder == "clip":
        name, loaded = "visual.conv1.weight", model.clip.encoder.visual.conv1.weight
    else:
        name, loaded = "blocks.2.mlp.fc1.weight", model.dino.encoder.model.blocks[2].mlp.fc1.weight
    assert torch.equal(loaded, state[name])


def test_a_stand_in_for_the_encoder_of_sam(run, make_cfg):
    key, config = "MODEL.EBSEG.SAM.PRETRAINED", "projects/laptop/configs/ebseg.yaml"
    path, _ = run("sam", 2, config=config)
    model = build_model(make_cfg(config, key, str(path)))
    assert torch.equal(model.sam.model.blocks[3].mlp.fc1.weight, load_file(path)["blocks.3.mlp.fc1.weight"])


@pytest.mark.parametrize("encoder", ["clip", "dense"])
def test_the_seed_decides_everything(run, encoder):
    one, again, other = (load_file(run(encoder, 2, f"{seed}.safetensors", seed[-1])[0]) for seed in ("a1", "b1", "c2"))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
