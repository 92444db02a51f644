"""Joining the maps of the global and the local correlation."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["FUSIONS"]


class ConcatenateMaps(nn.Linear):
    """A linear layer of both maps at each place."""

    def __init__(self, width: int) -> None:
        super().__init__(2 * width, width)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Join maps (B, T, width, h, w)."""
        joined = torch.cat([first, second], dim=2).movedim(2, -1)
        return F.linear(joined, self.weight, self.bias).movedim(-1, 2)


class AddMaps(nn.Module):
    """Their sum."""

    def __init__(self, _width: int) -> None:
        super().__init__()

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Join maps (B, T, width, h, w)."""
        return first + second


FUSIONS = {"concatenate": ConcatenateMaps, "add": AddMaps}  # by MODEL.FGASEG.FUSION
