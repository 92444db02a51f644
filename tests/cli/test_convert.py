"""`mm-ovseg convert` as a user runs it."""

import hashlib
import os
import shlex
import stat
import subprocess

import pytest
import timm
import torch
from safetensors import safe_open

import mm_ovseg
from mm_ovseg.modeling.backbone.dino import DINOEncoder
from tests.conftest import CLI, ROOT, run_cli, run_cli_process
from tests.patience import PATIENCE

SIZE = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture
def published(tmp_path):
    """A stage-1 checkpoint under the names of its training."""
    torch.manual_seed(0)
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, **SIZE).state_dict()
    path = tmp_path / "stage_1.pth"
    wrapped = {f"module.backbone.{name}": value for name, value in state.items()}
    torch.save({"teacher": {**wrapped, "module.head.last.weight": torch.zeros(3)}, "epoch": 7}, path)
    return path, state


def fails(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        run_cli("convert", *words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_stage_1_checkpoint_becomes_weights_of_the_sar_encoder(published, tmp_path, suffix):
    source, state = published
    output = tmp_path / "weights" / f"dino_sar.{suffix}"
    done = run_cli_process("convert", source, output)
    assert done.returncode == 0, done.stderr
    assert f"is DINO v1: {len(state) + 1} tensors into {len(state)}." in done.stdout
    assert "1 dropped: a head of the encoder's own training" in done.stdout
    assert "MODEL.DENSE_ENCODER_SAR.WEIGHTS" in done.stdout

    if suffix == "safetensors":
        with safe_open(output, "pt") as file:
            origin, converted = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    else:
        content = torch.load(output, weights_only=True)
        origin, converted = content["origin"], content["model"]
    assert origin["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert origin["mm_ovseg_version"] == mm_ovseg.__version__
    assert (origin["variant"], origin["source"]) == ("dino", "stage_1.pth")
    assert converted.keys() == state.keys() and all(torch.equal(converted[name], state[name]) for name in state)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(output.stat().st_mode) == 0o666 & ~umask

    encoder = DINOEncoder(
        name="vit_tiny_patch16_224", arguments=SIZE, weights=str(output), image_size=32, blocks=[1, 2],
        pixel_mean=[0, 0, 0], pixel_std=[1, 1, 1],
    )  # fmt: skip
    assert torch.equal(encoder.model.pos_embed, state["pos_embed"])


def test_a_whole_model_converts_once(released_catseg, tmp_path, capsys):
    output = tmp_path / "catseg.pth"
    run_cli("convert", released_catseg, output, "--variant", "catseg")
    printed = capsys.readouterr().out
    assert "is CAT-Seg ViT-B/16" in printed and "configs/siblings/catseg_vitb16_384.yaml" in printed
    assert "already has the names that mm_ovseg reads" in fails(capsys, output, tmp_path / "again.pth")
    assert "convert it as 'catseg'" in fails(capsys, released_catseg, tmp_path / "other.pth", "--variant", "vitb16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catseg.pth", "released.pth"]


def test_bad_files_and_names_end_in_one_line_and_leave_nothing(published, tmp_path, capsys):
    source, _ = published
    output = tmp_path / "out.pth"
    assert "gone.pth does not exist" in fails(capsys, tmp_path / "gone.pth", output)
    (tmp_path / "cut.pth").write_bytes(source.read_bytes()[:-500])
    assert "cut.pth is not a readable weights file" in fails(capsys, tmp_path / "cut.pth", output)
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "hook": print}, tmp_path / "code.pth")
    assert "objects other than tensors" in fails(capsys, tmp_path / "code.pth", output)
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    assert "other.pth: The checkpoint is not of" in fails(capsys, tmp_path / "other.pth", output)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "clip.pt")
    assert "TorchScript archive" in fails(capsys, tmp_path / "clip.pt", output)
    assert "no suffix of a known format" in fails(capsys, source, tmp_path / "out.bin")
    assert "is the file to convert" in fails(capsys, source, source)
    assert "is a file, not a folder" in fails(capsys, source, source / "out.pth")
    assert not output.exists() and torch.load(source, weights_only=True)["epoch"] == 7


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_full_disk_is_one_line_and_leaves_nothing(published, tmp_path, suffix):
    source, _ = published
    output = tmp_path / f"out.{suffix}"
    command = f"ulimit -f 4; exec {shlex.join(CLI)} convert {source} {output}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and f"out.{suffix} cannot be written" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["stage_1.pth"]


def test_tensors_that_share_memory_are_written_apart(published, tmp_path):
    _, state = published
    state["blocks.1.norm1.weight"] = state["blocks.0.norm1.weight"]
    torch.save(state, tmp_path / "tied.pth")
    run_cli("convert", tmp_path / "tied.pth", tmp_path / "apart.safetensors")
    with safe_open(tmp_path / "apart.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("blocks.1.norm1.weight"), state["blocks.0.norm1.weight"])
