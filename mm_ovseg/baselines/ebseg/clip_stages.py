"""CLIP in two parts: dense features for the pixel decoder, then the recognition head."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import nn

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone.clip import embed_patches, resize_position
from mm_ovseg.modeling.memory import recomputed

__all__ = ["CLIPFeatures", "CLIPStages", "recognition_bias"]

BLOCKED = -100.0  # added to an attention score: a weight of e ** -100


@dataclass
class CLIPFeatures:
    """What the first part of CLIP gives.

    Attributes:
        maps: (B, width, h, w) after each requested block, without CLS.
        tokens: (B, 1 + h * w, width), CLS first, after the last of these blocks.
        surgery: the second stream, of the same shape; None in training.
    """

    maps: tuple[torch.Tensor, ...]
    tokens: torch.Tensor
    surgery: torch.Tensor | None


class CLIPStages(nn.Module):
    """CLIP's image encoder, frozen but for its positional embedding (EBSeg; baselines.md, 2.2 and 2.7).

    Beside the usual stream runs, in evaluation, a second one of residuals ("surgery"), in which tokens attend to
    tokens with similar values: its patches keep to their own place, so that they can be pooled over a mask.

    Args:
        visual: CLIP's image tower, of :func:`~mm_ovseg.modeling.backbone.clip.build_clip`.
        blocks: 1-based blocks after which features are taken, in order; the first part ends with the last of them.
        surgery_block: 1-based block where the second stream starts.

    Raises:
        ConfigError: CLIP has no such blocks, or none is left for the second part.
    """

    def __init__(self, visual: VisionTransformer, *, blocks: Sequence[int], surgery_block: int) -> None:
        super().__init__()
        depth = visual.transformer.layers
        if not blocks or list(blocks) != sorted(blocks) or not 1 <= blocks[0] <= blocks[-1] < depth:
            raise ConfigError(
                f"MODEL.EBSEG.CLIP_BLOCKS is {list(blocks)}; give blocks from 1 to {depth - 1} in ascending order, "
                f"since CLIP has {depth} and the recognition head needs the last."
            )
        if not 1 <= surgery_block <= blocks[-1]:
            raise ConfigError(
                f"MODEL.EBSEG.SURGERY_BLOCK is {surgery_block}; give one from 1 to {blocks[-1]}, the last of "
                "MODEL.EBSEG.CLIP_BLOCKS."
            )
        visual.requires_grad_(False)
        visual.positional_embedding.requires_grad_(True)
        self.visual = visual
        self.blocks = tuple(blocks)
        self.surgery_block = surgery_block
        self.recompute = False

    @property
    def heads(self) -> int:
        """Attention heads of each block."""
        return self.visual.transformer.resblocks[0].attn.heads

    def forward(self, images: torch.Tensor, *, with_surgery: bool) -> CLIPFeatures:
        """Run the first part on preprocessed images (B, 3, H, W) of any size."""
        visual = self.visual
        grid = tuple(side // patch for side, patch in zip(images.shape[-2:], visual.patch_size, strict=True))
        x = embed_patches(visual, images, resize_position(visual.positional_embedding, grid))  # (B, 1 + h * w, width)
        maps, surgery = {}, None
        for index, block in enumerate(visual.transformer.resblocks[: self.blocks[-1]], start=1):
            if with_surgery and index >= self.surgery_block:
                surgery = (x if surgery is None else surgery) + block.attn.value_attention(block.ln_1(x))
            x = recomputed(self.recompute, block, x)
            if index in self.blocks:
                maps[index] = x[:, 1:].transpose(1, 2).unflatten(2, grid)
        return CLIPFeatures(tuple(maps[block] for block in self.blocks), x, surgery)

    def recognize(self, features: CLIPFeatures, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run the second part, with a copy of CLS for each query ("SOS"), which sees the patches as the query does.

        Both streams share one attention bias, as in the released code. No SOS token sees another one: they are
        independent of each other, and may belong to several stages of the transformer decoder.

        Args:
            features: of :meth:`forward`.
            bias: added to the attention of Q queries to the places of a map, (B, heads, Q, H, W).

        Returns:
            Unit vectors (B, Q, C) of the queries, and, with surgery, unit vectors of the patches (B, C, h, w).
        """
        queries, grid = bias.shape[2], features.maps[0].shape[-2:]
        bias = recognition_bias(bias, grid)
        x, surgery = (None if s is None else _repeat_cls(s, queries) for s in (features.tokens, features.surgery))
        for block in self.visual.transformer.resblocks[self.blocks[-1] :]:
            if surgery is not None:
                surgery = surgery + block.attn.value_attention(block.ln_1(x), attn_mask=bias.to(x.dtype))
            x = recomputed(self.recompute, block, x, attn_mask=bias)
        patches = None
        if surgery is not None:
            patches = self._project(surgery[:, queries + 1 :]).transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)
        return self._project(x[:, :queries]), patches

    def _project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unit vectors (B, N, C) in the space of text of tokens (B, N, width)."""
        return F.normalize(self.visual.ln_post(tokens) @ self.visual.proj, dim=-1)


def recognition_bias(bias: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The bias of attention among Q SOS tokens, CLS and h * w patches, in this order.

    Args:
        bias: of queries and places, (B, heads, Q, H, W), which is max-pooled.
        grid: h and w.

    Returns:
        (B, heads, N, N) for N = Q + 1 + h * w. An SOS token sees itself and the patches, nobody else sees it.
    """
    queries = bias.shape[2]
    pooled = F.adaptive_max_pool2d(bias.flatten(0, 1), grid).flatten(2).unflatten(0, bias.shape[:2])
    tokens = queries + 1 + pooled.shape[-1]
    full = pooled.new_zeros(*bias.shape[:2], tokens, tokens)
    full[..., :queries] = BLOCKED
    full.diagonal(dim1=-2, dim2=-1)[..., :queries] = 0
    full[..., :queries, queries] = BLOCKED
    full[..., :queries, queries + 1 :] = pooled
    return full


def _repeat_cls(tokens: torch.Tensor, copies: int) -> torch.Tensor:
    """(B, 1 + h * w, width) -> (B, copies + 1 + h * w, width)."""
    return torch.cat([tokens[:, :1].expand(-1, copies, -1), tokens], dim=1)
