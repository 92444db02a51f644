import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.errors import CheckpointError


def build():
    return nn.Linear(3, 2)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_loaded_whole(tmp_path, suffix, prefix):
    source, target, path = build(), build(), tmp_path / f"weights.{suffix}"
    state = {prefix + name: value for name, value in source.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    StrictCheckpointer(target).load(str(path))
    assert torch.equal(source.weight, target.weight) and torch.equal(source.bias, target.bias)


def test_no_path_loads_nothing():
    model = build()
    before = model.weight.clone()
    assert StrictCheckpointer(model).load("") == {}
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("state,message", [
    ({"weight": torch.zeros(2, 3)}, r"1 missing \(bias\)"),
    ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "scale": torch.zeros(1)}, r"1 left over \(scale\)"),
    ({"weight": torch.zeros(4, 3), "bias": torch.zeros(2)}, r"of another shape \(weight\)"),
])  # fmt: skip
def test_weights_of_another_architecture_are_refused(tmp_path, state, message):
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=rf"other\.pth.*another architecture.*{message}"):
        StrictCheckpointer(build()).load(str(tmp_path / "other.pth"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="gone.pth"):
        StrictCheckpointer(build()).load(str(tmp_path / "gone.pth"))


def test_the_best_checkpoint_is_not_where_training_resumes(tmp_path):
    checkpointer = StrictCheckpointer(build(), str(tmp_path))
    checkpointer.save("model_0000001")
    checkpointer.save("model_best")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000001.pth")
