"""From queries to masks, class embeddings and attention biases."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.baselines.ebseg.layers import mlp
from mm_ovseg.baselines.position_embedding import sine_position
from mm_ovseg.modeling.precision import at_least_float32

__all__ = ["Stage", "TransformerDecoder", "mask_pooled"]

MAX_SCALE = 10.0  # of class embeddings


@dataclass
class Stage:
    """The queries before the first layer, or after one of them.

    Attributes:
        queries: (B, Q, width), normalised.
        embeddings: (B, Q, width), whose products with the mask features are the masks.
        masks: logits (B, Q, H, W).
    """

    queries: torch.Tensor
    embeddings: torch.Tensor
    masks: torch.Tensor


class TransformerDecoder(nn.Module):
    """Mask2Former's decoder, with a class embedding and an attention bias for each query (EBSeg; baselines.md, 2.6).

    Args:
        width: channels, a multiple of ``heads``.
        queries, heads, layers: their numbers.
        levels: maps that the layers attend to in turn.
        embed_dim: channels of CLIP's text space.
        clip_heads: attention heads of CLIP, each of which gets its own bias.
    """

    def __init__(
        self, *, width: int, queries: int, heads: int, layers: int, levels: int, embed_dim: int, clip_heads: int
    ) -> None:
        super().__init__()
        self.clip_heads = clip_heads
        self.query_feat = nn.Embedding(queries, width)
        self.query_embed = nn.Embedding(queries, width)
        self.level_embed = nn.Embedding(levels, width)
        self.layers = nn.ModuleList(TransformerDecoderLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.mask_embed = mlp([width, width, width, width])
        self.pool_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.class_embed = mlp([width, width, width, embed_dim])
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.bias_proj = mlp([width, width, width, width * clip_heads])
        self.bias_scaling = nn.Linear(1, 1)
        nn.init.ones_(self.bias_scaling.weight)
        nn.init.zeros_(self.bias_scaling.bias)

    def forward(self, levels: Sequence[torch.Tensor], mask_features: torch.Tensor) -> list[Stage]:
        """Decode.

        Args:
            levels: (B, width, h, w), the coarsest first.
            mask_features: (B, width, H, W).

        Returns:
            One stage before the first layer and one after each.
        """
        memories = [
            level.flatten(2).transpose(1, 2) + embed
            for level, embed in zip(levels, self.level_embed.weight, strict=True)
        ]  # (B, h * w, width)
        positions = [
            sine_position(*level.shape[-2:], level.shape[1] // 2, device=level.device).flatten(1).T for level in levels
        ]
        z = self.query_feat.weight.repeat(mask_features.shape[0], 1, 1)  # (B, Q, width)
        stages = [self._stage(z, mask_features)]
        for index, layer in enumerate(self.layers):
            level = index % len(levels)
            blocked = _blocked(stages[-1].masks.detach(), levels[level].shape[-2:])
            z = layer(z, self.query_embed.weight, memories[level], positions[level], blocked)
            stages.append(self._stage(z, mask_features))
        return stages

    def class_embeddings(self, stage: Stage, mask_features: torch.Tensor) -> torch.Tensor:
        """Embeddings of the queries in the space of text, (B, Q, embed_dim), all of one length."""
        pooled = self.pool_proj(mask_pooled(mask_features, stage.masks.detach()))
        embeddings = F.normalize(self.class_embed(pooled + stage.queries), dim=-1)
        return self.logit_scale.clamp(max=MAX_SCALE) * embeddings

    def attention_bias(self, embeddings: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """What is added to the attention of CLIP's heads to the places of the map.

        Args:
            embeddings: of the queries of any stages, (B, Q, width).
            mask_features: (B, width, H, W).

        Returns:
            (B, clip_heads, Q, H, W).
        """
        vectors = self.bias_proj(mask_features.flatten(2).transpose(1, 2))  # (B, H * W, clip_heads * width)
        vectors = vectors.unflatten(-1, (self.clip_heads, -1)).permute(0, 2, 3, 1)  # (B, clip_heads, width, H * W)
        bias = (embeddings[:, None] @ vectors).unflatten(-1, mask_features.shape[-2:])
        return bias * self.bias_scaling.weight[0] + self.bias_scaling.bias

    def _stage(self, z: torch.Tensor, mask_features: torch.Tensor) -> Stage:
        queries = self.norm(z)
        embeddings = self.mask_embed(queries)
        return Stage(queries, embeddings, torch.einsum("bqc,bchw->bqhw", embeddings, mask_features))


class TransformerDecoderLayer(nn.Module):
    """Masked cross-attention, self-attention and an MLP, each with its norm after the sum."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 8 * width), nn.ReLU(), nn.Linear(8 * width, width))
        self.mlp_norm = nn.LayerNorm(width)

    def forward(
        self,
        z: torch.Tensor,
        query_embed: torch.Tensor,
        memory: torch.Tensor,
        position: torch.Tensor,
        blocked: torch.Tensor,
    ) -> torch.Tensor:
        """Update queries.

        Args:
            z: (B, Q, width).
            query_embed: (Q, width), added to queries, and to keys of self-attention.
            memory: (B, N, width).
            position: (N, width), added to its keys.
            blocked: bool (B, Q, N), where a query may not look.

        Returns:
            (B, Q, width).
        """
        blocked = blocked.repeat_interleave(self.cross_attention.num_heads, dim=0)  # (B * heads, Q, N)
        seen, _ = self.cross_attention(
            z + query_embed, memory + position, memory, attn_mask=blocked, need_weights=False
        )
        z = self.cross_norm(z + seen)
        query = z + query_embed
        seen, _ = self.attention(query, query, z, need_weights=False)
        z = self.attention_norm(z + seen)
        return self.mlp_norm(z + self.mlp(z))


def mask_pooled(features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The mean of features (B, C, h, w) where each of the masks (B, Q, h, w) is positive, (B, Q, C); 0 for nowhere."""
    features = at_least_float32(features).flatten(2).transpose(1, 2)  # (B, h * w, C)
    with torch.autocast(features.device.type, enabled=False):  # sums over a map are too large for float16
        inside = (masks > 0).flatten(2).to(features.dtype)  # (B, Q, h * w)
        return inside @ features / (inside.sum(dim=-1, keepdim=True) + 1e-8)


def _blocked(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Where a query may not look, bool (B, Q, h * w): outside its mask (B, Q, H, W), unless that is empty."""
    resized = F.interpolate(masks, size, mode="bilinear", align_corners=False)
    blocked = (resized.sigmoid() < 0.5).flatten(2)
    return blocked & ~blocked.all(dim=-1, keepdim=True)
