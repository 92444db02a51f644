"""tools/publish_weights.py as a user runs it."""

import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mm_ovseg.files import sha256
from tests.conftest import ROOT, load_tool
from tests.patience import PATIENCE

publish_weights = load_tool("publish_weights")


@pytest.fixture
def checkpoint(tmp_path):
    """What training writes, and its weights."""
    torch.manual_seed(0)
    state = {"head.weight": torch.randn(6, 5).T, "steps": torch.tensor([7]), "mask": torch.tensor([0.0, -torch.inf])}
    path = tmp_path / "model_final.pth"
    torch.save({"model": state, "optimizer": {"state": torch.zeros(10_000)}, "iteration": 3}, path)
    return path, state


def fails(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        publish_weights.main([str(word) for word in words])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_only_the_weights_are_left_and_halved(checkpoint, tmp_path):
    source, state = checkpoint
    output = tmp_path / "new" / "published.safetensors"
    command = [sys.executable, "tools/publish_weights.py", str(source), str(output), "--half"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "3 tensors, 0.0 MB" in done.stdout
    published = load_file(output)
    assert published.keys() == state.keys()
    assert published["head.weight"].dtype == torch.float16 and published["steps"].dtype == torch.int64
    torch.testing.assert_close(published["head.weight"].float(), state["head.weight"], rtol=2**-11, atol=0)
    assert torch.equal(published["mask"].float(), state["mask"])
    with safe_open(output, "pt") as file:
        assert file.metadata()["source_sha256"] == sha256(source)


def test_without_half_nothing_changes(checkpoint, tmp_path):
    source, state = checkpoint
    publish_weights.main([str(source), str(tmp_path / "published.pth")])
    published = torch.load(tmp_path / "published.pth", weights_only=True)
    assert published.keys() == {"model", "origin"}
    assert all(torch.equal(published["model"][name], tensor) for name, tensor in state.items())


def test_what_cannot_be_published_ends_in_one_line_and_leaves_nothing(checkpoint, tmp_path, capsys):
    source, state = checkpoint
    large = tmp_path / "large.pth"
    torch.save({"model": {**state, "scale": torch.tensor([1e5])}}, large)
    output = tmp_path / "published.safetensors"
    assert "scale has values beyond" in fails(capsys, large, output, "--half")
    assert "choose another name" in fails(capsys, source, source)
    assert "no suffix" in fails(capsys, source, tmp_path / "published.bin")
    assert "does not exist" in fails(capsys, tmp_path / "missing.pth", output)
    assert not output.exists()
