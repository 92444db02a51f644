import numpy as np
import pytest
import torch

from laptop.pretraining import contrastive


def test_the_class_tokens_variance_is_relative_to_the_patches():
    tokens = torch.randn(64, 17, 8, generator=torch.Generator().manual_seed(0))
    assert contrastive.class_token_variance(tokens).item() == pytest.approx(1, abs=0.2)
    tokens[:, 0] *= 3
    assert contrastive.class_token_variance(tokens).item() == pytest.approx(9, abs=2)
    tokens[:, 0] = tokens[0, 0]
    assert contrastive.class_token_variance(tokens) == 0


def test_its_gradient_moves_the_class_token_only():
    tokens = torch.randn(8, 5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    contrastive.class_token_variance(tokens).backward()
    assert tokens.grad[:, 0].abs().min() > 0 and tokens.grad[:, 1:].abs().max() == 0


class Scenes:
    """Two kinds of crops, each of one class and colour."""

    classes = ("water", "forest")

    def crops(self, size, generator):
        while True:
            kind = int(generator.integers(2))
            crop = torch.full((3, size, size), 200.0 * kind)
            yield crop + 20 * torch.from_numpy(generator.random((3, size, size))), [1 - kind, kind]


def variance_after_training(weight):
    model, losses = contrastive.pretrain_clip(
        "ViT-laptop-4",
        Scenes(),
        pixel_mean=torch.full((3,), 128.0),
        pixel_std=torch.full((3,), 64.0),
        iterations=30,
        batch_size=8,
        learning_rate=1e-3,
        seed=0,
        class_token_weight=weight,
    )
    tokens = []
    last = model.visual.transformer.resblocks[-1]
    assert not last._forward_pre_hooks  # the trained model is an ordinary one
    last.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))
    crops = Scenes().crops(24, np.random.default_rng(1))
    with torch.no_grad():
        model.encode_image(torch.stack([(next(crops)[0].float() - 128) / 64 for _ in range(16)]))
    assert model.visual.transformer.batch_first
    return contrastive.class_token_variance(tokens[0]).item(), losses


def test_the_penalty_keeps_the_class_token_from_reading_early():
    free, _ = variance_after_training(0.0)
    held, losses = variance_after_training(10.0)
    assert held < 0.1 * free
    assert losses[-1] < 0.5 * losses[0]  # and it still learns
