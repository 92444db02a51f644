"""Resizing learned positional embeddings to another grid."""

import math

import torch
import torch.nn.functional as F

__all__ = ["grid_size_of", "resize_positional_embedding"]


def grid_size_of(position: torch.Tensor) -> int | None:
    """The side n of a positional embedding (1, 1 + n * n, D); None for any other shape."""
    if position.dim() != 3 or position.shape[1] < 2:
        return None
    side = math.isqrt(position.shape[1] - 1)
    return side if 1 + side * side == position.shape[1] else None


def resize_positional_embedding(position: torch.Tensor, grid_size: int) -> torch.Tensor:
    """Resize a positional embedding with a CLS token bicubically.

    The scale is that of DINO's own code, a tenth of a token above the ratio of the sides, with which the released
    weights were trained.

    Args:
        position: (1, 1 + n * n, D); another shape is a ValueError.
        grid_size: tokens per side of the new grid.

    Returns:
        (1, 1 + grid_size * grid_size, D) float32.
    """
    stored = grid_size_of(position)
    if stored is None:
        raise ValueError(f"not a positional embedding: {tuple(position.shape)}")
    grid = position[:, 1:].float().transpose(1, 2).unflatten(2, (stored, stored))  # (1, D, n, n)
    scale = (grid_size + 0.1) / stored
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
    return torch.cat([position[:, :1].float(), grid.flatten(2).transpose(1, 2)], dim=1)
