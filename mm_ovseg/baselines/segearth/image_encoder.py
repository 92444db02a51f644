"""CLIP's image encoder with SegEarth-OV's last block."""

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer

from mm_ovseg.modeling.backbone.clip import SelfAttention, embed_patches, resize_position

__all__ = ["encode_tokens"]


def encode_tokens(visual: VisionTransformer, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features in CLIP's text space, whose last block only attends (arXiv 2410.01768).

    Args:
        visual: CLIP's image tower, by :func:`~mm_ovseg.modeling.backbone.clip.build_clip`.
        images: preprocessed, (B, 3, H, W); H and W are multiples of the patch size.

    Returns:
        Those of the image (B, C) and of the patches (B, h, w, C), none of them normalised.
    """
    height, width = (int(side) // visual.patch_size[0] for side in images.shape[2:])
    stored = int(visual.positional_embedding.shape[0]) - 1
    # As DINO and the released code: factors that are a tenth of a token too large, against rounding.
    scale = tuple((side + 0.1) / stored**0.5 for side in (height, width))
    x = embed_patches(visual, images, resize_position(visual.positional_embedding, (height, width), scale))
    *blocks, last_block = visual.transformer.resblocks
    for block in blocks:
        x = block(x)  # (B, 1 + h * w, width)
    # Without the residual and the MLP.
    x = visual.ln_post(_self_self_attention(last_block.attn, last_block.ln_1(x))) @ visual.proj
    return x[:, 0], x[:, 1:].unflatten(1, (height, width))


def _self_self_attention(attention: SelfAttention, x: torch.Tensor) -> torch.Tensor:
    """Attend by the similarity of queries, of keys and of values to each other; the three are summed, not averaged."""
    parts = [
        projection(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
        for projection in (attention.query, attention.key, attention.value)
    ]
    value = parts[-1]
    x = sum(F.scaled_dot_product_attention(part, part, value) for part in parts)
    return attention.output(x.transpose(1, 2).flatten(2))  # (B, N, D)
