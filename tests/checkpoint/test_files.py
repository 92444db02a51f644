import pytest
import torch
from safetensors.torch import save_file

from mm_ovseg.checkpoint.files import load_weights_file
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
