"""Reading golden values, and the seeded weights that they were made with (golden/README.md)."""

import zlib

import numpy as np
import pytest
import torch

from tests.conftest import ROOT

CLASSES = ["city", "road", "forest", "water", "farmland"]
SEEN_CLASSES = ["city", "forest", "farmland"]
TOLERANCE = 1e-4  # relative, ||ours - golden|| / ||golden||
GRADIENT_TOLERANCE = 1e-3


def golden_folder(name):
    """The folder with the values of a model, here or beside the checkout; skips the test if there is none."""
    for folder in (ROOT / "tests" / "golden", ROOT.parent / "shared" / "golden"):
        if (folder / f"{name}.npz").is_file():
            return folder
    pytest.skip(f"needs {name}.npz in {folder}")


def seeded(name, shape, seed):
    """The weights that the golden values were made with."""
    state = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    x = state.standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        x *= np.float32(1 / np.sqrt(np.prod(shape[1:])))
    elif len(shape) == 1:
        x = (1 + 0.1 * x if name.endswith("weight") else 0.1 * x).astype(np.float32)
    return torch.from_numpy(np.asarray(x))


def sliced(name, tensor):
    """What golden/README.md says was kept of a tensor."""
    if name not in ("text", "logits") and (tensor.dim() == 5 or (tensor.dim() == 4 and tensor.shape[1] > 16)):
        tensor = tensor[:, :: max(1, tensor.shape[1] // 8)][..., ::3, ::3]
    return tensor.numpy()


def check_equal(name, ours, theirs):
    """Within the tolerance of golden/README.md."""
    assert ours.shape == theirs.shape, name
    assert np.linalg.norm(ours - theirs) <= TOLERANCE * np.linalg.norm(theirs), name
