"""Dense contrastive learning without labels: the same place in two views is distinguished from all others."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import timm
import torch
from lightly.loss import NTXentLoss
from torch import nn
from torchvision.transforms import v2

from laptop.pretraining.crops import LabelledScenes
from laptop.pretraining.training import train

__all__ = ["pretrain_dense_encoder"]

TEMPERATURE = 0.1
TOKENS_PER_IMAGE = 48  # maximum


def pretrain_dense_encoder(
    vit: str,
    arguments: Mapping[str, Any],
    scenes: LabelledScenes,
    *,
    image_size: int,
    pixel_mean: torch.Tensor,
    pixel_std: torch.Tensor,
    iterations: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    show_progress: bool = False,
) -> tuple[nn.Module, list[float]]:
    """Train a ViT to give a place the same token in two views, and different places different tokens.

    The views are shifted against each other, so that the position in the view gives no clue, and differ in brightness,
    contrast, saturation, hue and noise. Labels are not used.

    Args:
        vit: name of a timm ViT.
        arguments: arguments of ``timm.create_model``.
        scenes: the source of crops.
        image_size: side of a view in pixels.
        pixel_mean, pixel_std, iterations, batch_size, learning_rate, seed, show_progress: see
            :func:`~laptop.pretraining.contrastive.pretrain_clip`.

    Returns:
        The ViT, in evaluation mode, and the loss of every step.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    encoder = timm.create_model(vit, num_classes=0, **{"img_size": image_size, **arguments})
    patch_size = encoder.patch_embed.patch_size[0]
    contrastive_loss = NTXentLoss(temperature=TEMPERATURE)
    look = v2.Compose([v2.ColorJitter(0.4, 0.4, 0.2, 0.05), v2.GaussianNoise(sigma=0.03)])
    mean, std = (values.view(3, 1, 1) / 255 for values in (pixel_mean, pixel_std))
    crops = scenes.crops(image_size + _largest_shift(image_size // patch_size) * patch_size, generator)

    def compute_loss() -> torch.Tensor:
        views, places = [], []
        for crop, _ in islice(crops, batch_size):
            pair, matches = _two_views(crop.float() / 255, image_size, patch_size, generator)
            views.extend((look(view) - mean) / std for view in pair)
            places.append(matches)
        (maps,) = encoder.forward_intermediates(torch.stack(views), 1, norm=True, intermediates_only=True)
        tokens = maps.flatten(2).transpose(1, 2)  # (2 B, N, D)
        matches = torch.stack(places)  # (B, K, 2)
        first, second = (
            tokens[side::2].take_along_dim(matches[..., side, None], dim=1).flatten(0, 1) for side in (0, 1)
        )  # (B * K, D)
        return contrastive_loss(first, second)

    losses = train(
        encoder,
        compute_loss,
        iterations=iterations,
        learning_rate=learning_rate,
        description="dense contrastive",
        show_progress=show_progress,
    )
    return encoder, losses


def _largest_shift(grid: int) -> int:
    """Maximum shift between two views in tokens, for the given number of tokens per side."""
    return grid // 3


def _two_views(
    crop: torch.Tensor, size: int, patch_size: int, generator: np.random.Generator
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Cut two windows with aligned token grids, and draw places visible in both.

    Args:
        crop: (3, S, S), larger than ``size`` by the largest shift.

    Returns:
        The views (3, size, size), and (K, 2) indices of the same places in their tokens.
    """
    grid = size // patch_size
    shift = _largest_shift(grid)
    corners = generator.integers(shift + 1, size=(2, 2))  # view, (row, column), in tokens
    views = tuple(
        crop[:, row * patch_size : row * patch_size + size, column * patch_size : column * patch_size + size]
        for row, column in corners
    )
    low, high = corners.max(axis=0), corners.min(axis=0) + grid  # the common area of both views
    rows, columns = np.meshgrid(*(np.arange(*ends) for ends in zip(low, high, strict=True)), indexing="ij")
    places = np.stack([rows.ravel(), columns.ravel()], axis=1)
    places = generator.permutation(places)[: min(TOKENS_PER_IMAGE, (grid - shift) ** 2)]
    index = [(places - corner) @ np.array([grid, 1]) for corner in corners]
    return views, torch.from_numpy(np.stack(index, axis=1))
