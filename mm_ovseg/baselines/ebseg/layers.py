"""Layers that several parts of EBSeg share."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ChannelNorm", "mlp"]


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of a map (B, C, h, w) at each place, eps 1e-6.

    Unlike ``nn.LayerNorm`` and its subclasses it has weight decay, as in the published training.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        x = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return x.movedim(-1, 1)


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers between these widths, with ReLU between the layers."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
