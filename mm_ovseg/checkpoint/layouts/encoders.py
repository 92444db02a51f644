"""Layouts of the encoders: CLIP, DINO v1 and DINOv3, as published and as the released models hold them."""

from collections.abc import Callable
from dataclasses import dataclass

from mm_ovseg.checkpoint.layouts.entry import Layout, affine, derive, drop, keep, placed, repeated, same
from mm_ovseg.checkpoint.positional_embedding import resize_positional_embedding

__all__ = ["ClipSize", "VitSize", "clip_layout", "clip_towers", "dino_layout", "dinov3_layout", "split_attention"]

TRAINING_ONLY = "used in the encoder's own training only"
SETTING = "a setting, not a weight"


@dataclass(frozen=True)
class VitSize:
    """The size of a vision transformer.

    Attributes:
        width: channels of a token.
        depth: blocks.
        patch_size: side of a token in pixels.
        hidden: channels in the MLP.
        positions: tokens that have a positional embedding, CLS included; 0 for DINOv3, which has none.
        registers: tokens beside CLS and the patches.
    """

    width: int
    depth: int
    patch_size: int
    hidden: int
    positions: int = 0
    registers: int = 0


@dataclass(frozen=True)
class ClipSize:
    """The size of CLIP: its image tower, its text tower, and the channels that both end in."""

    visual: VitSize
    text_width: int
    text_depth: int
    embedding: int
    vocabulary: int = 49408
    context: int = 77


def dino_layout(size: VitSize, grid_size: int | None = None) -> Layout:
    """DINO v1, into timm's names.

    Args:
        size: of the encoder.
        grid_size: tokens a side that the positional embedding is resized to; None: it stays as it is.
    """
    width = size.width
    layout = _vit(size) | repeated(_vit_block(size) | same("attn.qkv", 3 * width, width), "blocks", size.depth)
    if grid_size is None:
        return layout | keep("pos_embed", "pos_embed", 1, size.positions, width)
    return layout | derive(
        "pos_embed",
        ("pos_embed",),
        *(1, size.positions, width),
        by=lambda position: (resize_positional_embedding(position, grid_size),),
        reason=f"interpolated to {grid_size} x {grid_size} tokens",
    )


def dinov3_layout(size: VitSize) -> Layout:
    """DINOv3, into the names of timm's ``_qkvb`` models."""
    width = size.width
    block = {
        **_vit_block(size),
        **keep("attn.qkv.weight", "attn.qkv.weight", 3 * width, width),
        **derive(
            "attn.qkv.bias",
            ("attn.q_bias", "attn.v_bias"),
            *(3 * width,),
            by=lambda bias: bias.chunk(3)[::2],
            reason="split into those of queries and values; that of the keys is masked to zero",
        ),
        **drop("attn.qkv.bias_mask", "the constant that masks the bias of the keys"),
        **keep("ls1.gamma", "gamma_1", width),
        **keep("ls2.gamma", "gamma_2", width),
    }
    return {
        **_vit(size),
        **keep("storage_tokens", "reg_token", 1, size.registers, width),
        **drop("rope_embed.periods", "constants, which timm computes"),
        **drop("local_cls_norm.weight", TRAINING_ONLY),
        **drop("local_cls_norm.bias", TRAINING_ONLY),
        **repeated(block, "blocks", size.depth),
    }


def clip_layout(size: ClipSize) -> Layout:
    """CLIP as OpenAI published it; open_clip reads its names."""

    def packed_attention(width: int) -> Layout:
        return {
            **keep("attn.in_proj_weight", "attn.in_proj_weight", 3 * width, width),
            **keep("attn.in_proj_bias", "attn.in_proj_bias", 3 * width),
            **same("attn.out_proj", width, width),
        }

    visual, text = clip_towers(size, packed_attention)
    return {
        **placed(visual, "visual.", "visual."),
        **text,
        **keep("logit_scale", "logit_scale"),
        **drop("input_resolution", SETTING),
        **drop("context_length", SETTING),
        **drop("vocab_size", SETTING),
    }


def split_attention(width: int) -> Layout:
    """Attention as CAT-Seg's CLIP holds it, query, key and value weights apart, into ours."""
    projections = ("query", "key", "value")
    layout: Layout = {}
    for projection in projections:
        layout |= keep(f"attn.{projection[0]}_proj_weight", f"attn.{projection}.weight", width, width)
    layout |= derive(
        "attn.in_proj_bias",
        tuple(f"attn.{projection}.bias" for projection in projections),
        *(3 * width,),
        by=lambda bias: bias.chunk(3),
        reason="split into those of queries, keys and values",
    )
    return layout | affine("attn.out_proj", "attn.output", width, width)


def clip_towers(size: ClipSize, attention: Callable[[int], Layout]) -> tuple[Layout, Layout]:
    """The image tower, without its prefix, and the text tower, both with the given layout of attention."""
    visual, text_width = size.visual, size.text_width

    def blocks(width: int, hidden: int, depth: int) -> Layout:
        block = {
            **attention(width),
            **same("ln_1", width),
            **same("mlp.c_fc", hidden, width),
            **same("mlp.c_proj", width, hidden),
            **same("ln_2", width),
        }
        return repeated(block, "transformer.resblocks", depth)

    image_tower = {
        **keep("class_embedding", "class_embedding", visual.width),
        **keep("positional_embedding", "positional_embedding", visual.positions, visual.width),
        **keep("proj", "proj", visual.width, size.embedding),
        **keep("conv1.weight", "conv1.weight", visual.width, 3, visual.patch_size, visual.patch_size),
        **same("ln_pre", visual.width),
        **blocks(visual.width, visual.hidden, visual.depth),
        **same("ln_post", visual.width),
    }
    text_tower = {
        **keep("positional_embedding", "positional_embedding", size.context, text_width),
        **keep("text_projection", "text_projection", text_width, size.embedding),
        **blocks(text_width, 4 * text_width, size.text_depth),
        **keep("token_embedding.weight", "token_embedding.weight", size.vocabulary, text_width),
        **same("ln_final", text_width),
    }
    return image_tower, text_tower


def _vit(size: VitSize) -> Layout:
    """What both generations of DINO share outside of the blocks."""
    return {
        **keep("cls_token", "cls_token", 1, 1, size.width),
        **same("patch_embed.proj", size.width, 3, size.patch_size, size.patch_size),
        **same("norm", size.width),
        **drop("mask_token", TRAINING_ONLY),
    }


def _vit_block(size: VitSize) -> Layout:
    """What they share in a block."""
    return {
        **same("norm1", size.width),
        **same("attn.proj", size.width, size.width),
        **same("norm2", size.width),
        **same("mlp.fc1", size.hidden, size.width),
        **same("mlp.fc2", size.width, size.hidden),
    }
