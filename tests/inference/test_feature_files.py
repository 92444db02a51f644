"""The file of a batch of encoded windows: what is read has the bits and the memory layout of what was written."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from mm_ovseg.errors import DataError
from mm_ovseg.inference.feature_files import EncodedBatch, EncodedWindow, read_batch, serialise_batch
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem
from tests.conftest import random_pair
from tests.rehearsal.device import tiny_cfg

READ = {"key": "a", "columns": [0, 48], "device": torch.device("cpu")}


def write(path, batch):
    path.write_bytes(serialise_batch(batch, key="a", columns=[0, 48]))
    return path


@pytest.fixture
def file(tmp_path):
    """The file of a window with data and one without."""
    valid, empty = np.ones((3, 5), bool), np.zeros((3, 5), bool)
    item = EncodedItem({"both": {"image": torch.rand(1, 2, 2)}}, {}, (3, 5), (3, 5))
    windows = [EncodedWindow(valid, empty, item), EncodedWindow(empty, empty, None)]
    return write(tmp_path / "0_0_2.safetensors", EncodedBatch(windows, [1]))


@pytest.mark.parametrize(
    "config",
    [
        "mm_ovseg_vitb16_384.yaml",
        "siblings/fgaseg_vitb16_384.yaml",
        "siblings/ebseg_vitb16_640.yaml",
        "siblings/segearth_ov_vitb16.yaml",
    ],
)
def test_the_features_of_every_model_come_back_as_they_were(config, tmp_path):
    torch.manual_seed(0)
    model = build_model(tiny_cfg(f"configs/{config}", "MODEL.DEVICE", "cpu")).eval()
    model.set_vocabulary(("water", "road", "city"))
    left = torch.arange(64).expand(48, 64) < 30
    encoded = model.encode(
        [random_pair(48, 64, 0), {**random_pair(48, 64, 1), "image_valid": left, "sar_valid": ~left}]
    )
    windows = [EncodedWindow(left.numpy(), ~left.numpy(), item) for item in encoded]
    batch = read_batch(write(tmp_path / "batch.safetensors", EncodedBatch(windows, [2])), **READ)
    [loaded] = batch.parts()
    for ours, theirs in zip(loaded, encoded, strict=True):
        assert (ours.size, ours.image_size) == (theirs.size, theirs.image_size)
        assert ours.masks.keys() == theirs.masks.keys() and ours.features.keys() == theirs.features.keys()
        assert all(torch.equal(ours.masks[answer], mask) for answer, mask in theirs.masks.items())
        for answer, features in theirs.features.items():
            assert ours.features[answer].keys() == features.keys()
            for name, tensor in features.items():
                other = ours.features[answer][name]
                assert torch.equal(other, tensor) and other.dtype == tensor.dtype and other.stride() == tensor.stride()
    assert all(map(torch.equal, model.answer(loaded), model.answer(encoded)))
    np.testing.assert_array_equal(batch.windows[1].sar_valid, ~left)


def test_a_window_without_data_has_no_features(file):
    batch = read_batch(file, **READ)
    assert [window.encoded is None for window in batch.windows] == [False, True]
    assert [len(part) for part in batch.parts()] == [1] and not batch.windows[1].image_valid.any()


@pytest.mark.parametrize("other", [{"key": "b"}, {"columns": [0, 32]}])
def test_what_is_not_asked_for_is_not_given(file, other):
    assert read_batch(file, **{**READ, **other}) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
def test_damage_is_noticed(file, damage):
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
        file.write_bytes({"cut": content[: len(content) // 2], "flipped": flipped, "empty": b""}[damage])
    with pytest.raises(DataError, match="0_0_2.safetensors is damaged"):
        read_batch(file, **READ)
