"""Multi-scale deformable attention in plain PyTorch."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["DeformableAttention", "cell_centres"]


class DeformableAttention(nn.Module):
    """Each query looks at a few places of every level, which it chooses itself (Deformable DETR, eq. 3).

    Args:
        width: channels, a multiple of ``heads``.
        heads: attention heads.
        levels: maps of different sizes.
        points: places per head and level.
    """

    def __init__(self, width: int, heads: int, *, levels: int, points: int = 4) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self._reset()

    def _reset(self) -> None:
        """Start as in Deformable DETR: each head looks in a direction of its own, its points farther and farther."""
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        rays = torch.stack([angle.cos(), angle.sin()], dim=-1)  # (heads, 2)
        rays = rays / rays.abs().amax(dim=-1, keepdim=True)
        distance = torch.arange(1, self.points + 1)
        with torch.no_grad():
            steps = rays[:, None, None] * distance[:, None]  # (heads, 1, points, 2)
            self.offsets.bias.copy_(steps.expand(-1, self.levels, -1, -1).flatten())
        for layer in (self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: torch.Tensor, value: torch.Tensor, reference: torch.Tensor, sizes: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        """Attend.

        Args:
            query: (B, N, width).
            value: (B, M, width), the cells of all levels, row by row, one level after the other.
            reference: place x, y of each query, 0..1, the same on all levels, (N, 2).
            sizes: height and width of each level in cells.

        Returns:
            (B, N, width).
        """
        offsets = self.offsets(query).unflatten(-1, (self.heads, self.levels, self.points, 2))
        weights = self.weights(query).unflatten(-1, (self.heads, -1)).softmax(dim=-1)
        weights = weights.unflatten(-1, (self.levels, self.points)).transpose(1, 2).flatten(0, 1)  # (B * heads, N, ...)
        values = self.value(value).unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)
        result = 0
        for level, (size, cells) in enumerate(zip(sizes, values.split([h * w for h, w in sizes], dim=-1), strict=True)):
            x, y = offsets[:, :, :, level].unbind(-1)  # in cells
            places = reference[:, None, None] + torch.stack([x / size[1], y / size[0]], dim=-1)  # (B, N, heads, ...)
            sampled = F.grid_sample(
                cells.unflatten(-1, size), 2 * places.transpose(1, 2).flatten(0, 1) - 1, align_corners=False
            )  # (B * heads, width / heads, N, points)
            result = result + (sampled * weights[:, None, :, level]).sum(dim=-1)
        return self.output(result.unflatten(0, (-1, self.heads)).flatten(1, 2).transpose(1, 2))


def cell_centres(sizes: Sequence[tuple[int, int]], device: torch.device) -> torch.Tensor:
    """The centres x, y, 0..1, of the cells of all levels, row by row, (M, 2)."""
    centres = []
    for height, width in sizes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        centres.append(torch.cartesian_prod(y, x).flip(-1))
    return torch.cat(centres)
