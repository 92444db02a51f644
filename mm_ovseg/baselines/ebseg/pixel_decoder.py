"""From the fused maps of SAM and CLIP to multi-scale features and mask features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import nn

from mm_ovseg.baselines.ebseg.deformable_attention import DeformableAttention, cell_centres
from mm_ovseg.baselines.ebseg.layers import ChannelNorm
from mm_ovseg.baselines.position_embedding import sine_position

__all__ = ["CLIPFusion", "PixelDecoder"]

LEVELS = 3
GROUPS = 32  # of GroupNorm


class CLIPFusion(nn.Module):
    """Adds CLIP's maps to SAM's (EBSeg; baselines.md, 2.4).

    Args:
        clip_width, sam_width: channels of their maps.
        levels: the number of maps.
    """

    def __init__(self, clip_width: int, sam_width: int, levels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(ChannelNorm(clip_width), nn.Conv2d(clip_width, sam_width, 1)) for _ in range(levels)
        )

    def forward(self, sam: Sequence[torch.Tensor], clip: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Add CLIP's maps (B, clip_width, h, w), projected and resized, to SAM's (B, sam_width, H, W)."""
        return [
            ours + F.interpolate(layer(theirs), ours.shape[-2:], mode="bilinear", align_corners=False)
            for layer, ours, theirs in zip(self.layers, sam, clip, strict=True)
        ]


class PixelDecoder(nn.Module):
    """Mask2Former's pixel decoder (EBSeg; baselines.md, 2.5).

    Args:
        in_channels: channels of all input maps.
        width: channels inside, a multiple of 32 and of 2 * ``heads``.
        heads, layers: of deformable attention.
    """

    def __init__(self, in_channels: int, *, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.GroupNorm(GROUPS, width)) for _ in range(LEVELS)
        )
        self.level_embed = nn.Parameter(torch.randn(LEVELS, width))
        self.layers = nn.ModuleList(PixelDecoderLayer(width, heads) for _ in range(layers))
        self.lateral = Conv2d(in_channels, width, 1, bias=False, norm=nn.GroupNorm(GROUPS, width))
        self.smooth = Conv2d(
            *(width, width, 3), padding=1, bias=False, norm=nn.GroupNorm(GROUPS, width), activation=F.relu
        )
        self.mask_features = nn.Conv2d(width, width, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Decode ``res2`` to ``res5``, (B, in_channels, h, w) each.

        Returns:
            Multi-scale features (B, width, h, w), those of ``res5`` first, and mask features (B, width, H / 4, W / 4).
        """
        finest, *others = maps
        levels = [layer(level) for layer, level in zip(self.projections, reversed(others), strict=True)]
        sizes = [level.shape[-2:] for level in levels]
        z = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # (B, M, width)
        position = torch.cat(
            [
                sine_position(*size, z.shape[-1] // 2, device=z.device).flatten(1).T + embed
                for size, embed in zip(sizes, self.level_embed, strict=True)
            ]
        )  # (M, width)
        reference = cell_centres(sizes, z.device)
        for layer in self.layers:
            z = layer(z, position, reference, sizes)
        parts = z.transpose(1, 2).split([height * width for height, width in sizes], dim=-1)
        levels = [part.unflatten(-1, size) for part, size in zip(parts, sizes, strict=True)]
        y = self.lateral(finest)
        y = y + F.interpolate(levels[-1], y.shape[-2:], mode="bilinear", align_corners=False)
        return levels, self.mask_features(self.smooth(y))


class PixelDecoderLayer(nn.Module):
    """Deformable self-attention and an MLP, each with its norm after the sum."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, heads, levels=LEVELS)
        self.attention_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.mlp_norm = nn.LayerNorm(width)

    def forward(
        self, z: torch.Tensor, position: torch.Tensor, reference: torch.Tensor, sizes: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        """(B, M, width) -> (B, M, width); see :class:`DeformableAttention`."""
        z = self.attention_norm(z + self.attention(z + position, z, reference, sizes))
        return self.mlp_norm(z + self.mlp(z))
