import numpy as np
import pytest
import torch

from laptop.pretraining.dense_contrastive import _largest_shift, _two_views


@pytest.mark.parametrize("size, matched", [(48, 48), (24, 16)])
def test_the_matches_show_the_same_place_in_both_views(size, matched):
    patch_size = 4
    side = size + _largest_shift(size // patch_size) * patch_size
    crop = torch.arange(side * side, dtype=torch.float32).view(1, side, side).expand(3, -1, -1)  # each pixel its own
    generator = np.random.default_rng(0)
    shifted = 0
    for _ in range(20):
        views, matches = _two_views(crop, size, patch_size, generator)
        tokens = [
            view[0].unfold(0, patch_size, patch_size).unfold(1, patch_size, patch_size).flatten(2).flatten(0, 1)
            for view in views
        ]  # (N, pixels)
        assert matches.shape == (matched, 2) and len(set(matches[:, 0].tolist())) == matched
        assert torch.equal(tokens[0][matches[:, 0]], tokens[1][matches[:, 1]])
        shifted += not torch.equal(matches[:, 0], matches[:, 1])
    assert shifted > 15
