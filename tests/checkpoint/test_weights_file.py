import argparse

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from mm_ovseg.checkpoint import weights_file
from mm_ovseg.checkpoint.weights_file import load_weights_file, local_weights_path
from mm_ovseg.errors import CheckpointError


class Stranger:
    """An object that a weights file has no business to hold."""


def test_both_formats_give_their_tensors(tmp_path):
    state = {"weight": torch.arange(6.0).view(2, 3)}
    torch.save({"model": state, "iteration": 3}, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    content = load_weights_file(tmp_path / "a.pth")
    assert content["iteration"] == 3 and torch.equal(content["model"]["weight"], state["weight"])
    assert torch.equal(load_weights_file(tmp_path / "a.safetensors")["weight"], state["weight"])


def bad_files(folder):
    good = folder / "good.pth"
    torch.save({"weight": torch.zeros(100)}, good)
    (folder / "truncated.pth").write_bytes(good.read_bytes()[:-200])
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.pth").write_text("no weights")
    (folder / "letters.pth").write_text("abcabc")
    (folder / "broken.safetensors").write_bytes(b"\xff" * 64)
    torch.save({"weight": Stranger()}, folder / "stranger.pth")
    torch.save([torch.zeros(1)], folder / "list.pth")


@pytest.mark.parametrize("name", [
    "gone.pth", "truncated.pth", "empty.pth", "text.pth", "letters.pth",
    "broken.safetensors", "stranger.pth", "list.pth",
])  # fmt: skip
def test_what_is_no_weights_file_is_refused_by_name(tmp_path, name):
    bad_files(tmp_path)
    with pytest.raises(CheckpointError, match=name):
        load_weights_file(tmp_path / name)


def test_the_message_says_what_is_wrong_and_the_way_out(tmp_path):
    torch.save({"model": {}, "args": argparse.Namespace(epochs=3)}, tmp_path / "full.pth")
    with pytest.raises(CheckpointError, match=r"full\.pth holds Python objects.*argparse\.Namespace.*torch\.save"):
        load_weights_file(tmp_path / "full.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "full.pth").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"cut\.pth is not a readable weights file.*may be truncated"):
        load_weights_file(tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_weights_file(tmp_path)
    with pytest.raises(CheckpointError, match=r"does not exist; give a local file, or hf://"):
        load_weights_file("https://example.org/weights.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_weights_file("a" * 5000)


def test_a_torchscript_archive_is_refused_with_the_way_out(tmp_path, recwarn):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=r"clip\.pt is a TorchScript archive.*torch\.save\(torch\.jit\.load"):
        load_weights_file(tmp_path / "clip.pt")
    assert not [warning for warning in recwarn if "TorchScript archive" in str(warning.message)]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub, without network, that holds one file of one repository."""
    repository = tmp_path / "models--agency--maps"
    snapshot = repository / "snapshots" / ("0" * 40)
    (snapshot / "weights").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file({"weight": torch.ones(2)}, snapshot / "weights" / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_files_of_the_hub_come_from_its_cache(hub):
    assert local_weights_path("hf://agency/maps/weights/model.safetensors").samefile(hub / "weights/model.safetensors")
    name = f"hf://agency/maps@{'0' * 40}/weights/model.safetensors"
    assert torch.equal(load_weights_file(name)["weight"], torch.ones(2))


@pytest.mark.parametrize("name,message", [
    ("hf://agency/maps/other.pth", r"hf://agency/maps/other\.pth cannot be downloaded.*give its path"),
    ("hf://agency/maps@v2/weights/model.safetensors", "cannot be downloaded"),
    ("hf://agency", "not the name of a file on the hub; write hf://organisation/repository/file"),
    ("hf://a b/c!/file.pth", "cannot be downloaded"),
])  # fmt: skip
def test_what_the_hub_does_not_have_is_named(hub, name, message):
    with pytest.raises(CheckpointError, match=message):
        local_weights_path(name)


def test_quickstart_names_a_file_that_comes_with_the_package(monkeypatch, tmp_path):
    assert local_weights_path("quickstart://").is_file()
    monkeypatch.setitem(weights_file.SHIPPED_WEIGHTS, "quickstart://", tmp_path / "quickstart.safetensors")
    with pytest.raises(CheckpointError, match=r"quickstart:// cannot be read"):
        load_weights_file("quickstart://")
    save_file({"weight": torch.ones(2)}, tmp_path / "quickstart.safetensors")
    assert torch.equal(load_weights_file("quickstart://")["weight"], torch.ones(2))
