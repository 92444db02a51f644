"""Text embeddings that have looked at the image."""

import torch
from torch import nn

from mm_ovseg.baselines.position_embedding import sine_position
from mm_ovseg.errors import ConfigError

__all__ = ["TextRefinement"]

INITIAL_SCALE = 0.1


class CrossAttentionLayer(nn.Module):
    """Attention from the text to the image, a linear layer, and a norm of the sum with the text."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.linear = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, text: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Text (B, T, C), and keys and values (B, h * w, C) -> (B, T, C)."""
        attended, _ = self.attention(text, key, value, need_weights=False)
        return self.norm(text + self.linear(attended))


class TextRefinement(nn.Module):
    """Move each class's embedding by what its cross-attention finds in the image ("P2Tformer").

    Args:
        channels: of text and image, a multiple of 4 and of ``heads``.
        heads: of the attention.
        layers: each refines the result of the one before.
        grid_size: tokens per side of the image's features.
    """

    position: torch.Tensor

    def __init__(self, *, channels: int, heads: int, layers: int, grid_size: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ConfigError(f"MODEL.FGASEG.REFINEMENT_HEADS is {heads}; it must divide {channels}, CLIP's channels.")
        if layers < 1:
            raise ConfigError(f"MODEL.FGASEG.REFINEMENT_LAYERS is {layers}; give 1 or more.")
        self.layers = nn.ModuleList(CrossAttentionLayer(channels, heads) for _ in range(layers))
        self.scale = nn.Parameter(torch.full((channels,), INITIAL_SCALE))
        position = sine_position(grid_size, grid_size, channels // 2).flatten(1).T  # (h * w, C)
        self.register_buffer("position", position, persistent=False)

    def forward(self, text: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """Refine normalised text (T, C) by each of the images (B, C, h, w); (B, T, C), not normalised."""
        value = dense.flatten(2).transpose(1, 2)  # (B, h * w, C)
        key = value + self.position
        refined = text.expand(dense.shape[0], -1, -1)
        for layer in self.layers:
            refined = layer(refined, key, value)
        return text + self.scale * refined
