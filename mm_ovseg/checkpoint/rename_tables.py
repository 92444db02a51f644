"""What published checkpoints call each tensor, and what we call it.

A table is a list of :class:`Row`. Patterns expand as a shell expands braces, ``fc{1,2}`` to ``fc1`` and ``fc2``, and
``#`` stands for the index of a block; the names on both sides are paired in order. The strict loader checks the shapes.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from mm_ovseg.checkpoint.positional_embedding import resize_positional_embedding

__all__ = ["DINO", "DINO_48", "DINOV3", "Rename", "RenameTable", "build_table", "clip_table", "model_table"]


@dataclass(frozen=True)
class Rename:
    """What becomes of one published tensor.

    Attributes:
        targets: our names for it; none where it is dropped.
        derive: computes one tensor per target; None where the tensor is kept as it is, for one target.
        reason: why it is dropped, or what ``derive`` does.
    """

    targets: tuple[str, ...] = ()
    derive: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] | None = None
    reason: str = ""


RenameTable = dict[str, Rename]  # from published names


class Row(NamedTuple):
    """One line of a table: two patterns; ``ours`` is None for tensors that are dropped. The rest as in Rename."""

    published: str
    ours: str | None
    reason: str = ""
    derive: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] | None = None


def _same(*patterns: str) -> list[Row]:
    return [Row(pattern, pattern) for pattern in patterns]


def _resized(position: torch.Tensor) -> tuple[torch.Tensor]:
    return (resize_positional_embedding(position, 48),)


TRAINING_ONLY = "used in the encoder's own training only"
DINO_BOTH = [
    *_same("cls_token", "{patch_embed.proj,norm}.{weight,bias}"),
    *_same("blocks.#.{norm1,norm2,attn.proj,mlp.fc1,mlp.fc2}.{weight,bias}", "blocks.#.attn.qkv.weight"),
    Row("mask_token", None, TRAINING_ONLY),
]
DINO = [*DINO_BOTH, *_same("blocks.#.attn.qkv.bias", "pos_embed")]
DINO_48 = [
    *DINO_BOTH,
    *_same("blocks.#.attn.qkv.bias"),
    Row("pos_embed", "pos_embed", "interpolated to 48 x 48 tokens", _resized),
]
DINOV3 = [
    *DINO_BOTH,
    Row("storage_tokens", "reg_token"),
    Row("blocks.#.ls{1,2}.gamma", "blocks.#.gamma_{1,2}"),
    Row(
        "blocks.#.attn.qkv.bias",
        "blocks.#.attn.{q,v}_bias",
        "split into those of queries and values; that of the keys is masked to zero",
        lambda bias: bias.chunk(3)[::2],
    ),
    Row("blocks.#.attn.qkv.bias_mask", None, "the constant that masks the bias of the keys"),
    Row("rope_embed.periods", None, "constants, which timm computes"),
    Row("local_cls_norm.{weight,bias}", None, TRAINING_ONLY),
]

CLIP_BLOCK = _same("{ln_1,mlp.c_fc,mlp.c_proj,ln_2}.{weight,bias}")
CLIP_PACKED_BLOCK = [*CLIP_BLOCK, *_same("attn.{in_proj_weight,in_proj_bias,out_proj.weight,out_proj.bias}")]
CLIP_SPLIT_BLOCK = [  # of CAT-Seg's CLIP, and of ours
    *CLIP_BLOCK,
    Row("attn.{q,k,v}_proj_weight", "attn.{query,key,value}.weight"),
    Row(
        "attn.in_proj_bias",
        "attn.{query,key,value}.bias",
        "split into those of queries, keys and values",
        lambda bias: bias.chunk(3),
    ),
    Row("attn.out_proj.{weight,bias}", "attn.output.{weight,bias}"),
]
CLIP_VISUAL = _same("class_embedding", "positional_embedding", "proj", "conv1.weight", "ln_{pre,post}.{weight,bias}")
CLIP_TEXT = _same("positional_embedding", "text_projection", "token_embedding.weight", "ln_final.{weight,bias}")
CLIP_SETTINGS = [
    *_same("logit_scale"),
    Row("{input_resolution,context_length,vocab_size}", None, "a setting, not a weight"),
]

DINO_PROJECTION = [
    Row("down_sample.{weight,bias}", "dense.{weight,bias}"),
    Row("decod_proj{1,2}.{weight,bias}", "{coarse,fine}.{weight,bias}"),
]
HEAD = [  # with CLIP alone
    Row("conv1.{weight,bias}", "cost_volume_embedding.clip.{weight,bias}"),
    Row("guidance_projection.0.{weight,bias}", "aggregator.appearance_projection.{weight,bias}"),
    Row("text_guidance_projection.0.{weight,bias}", "aggregator.text_projection.{weight,bias}"),
    Row("decoder_guidance_projection.{0,1}.0.{weight,bias}", "decoder.guidance_projections.{0,1}.0.{weight,bias}"),
    Row("head.{weight,bias}", "decoder.logits.{weight,bias}"),
]
HEAD_WITH_DINO = [
    *(row for row in HEAD if not row.published.startswith("decoder_")),
    Row("{conv2,fusion_corr}.{weight,bias}", "cost_volume_embedding.{dino,fuse}.{weight,bias}"),
    Row("CLIP_decoder_guidance_projection.{0,1}.0.{weight,bias}", "decoder.guidance_projections.{0,1}.0.{weight,bias}"),
    Row("DINO_decoder_guidance_projection.{0,1}.0.{weight,bias}", "decoder.guidance_projections.{0,1}.1.{weight,bias}"),
]
SPATIAL = [
    *_same("guidance_norm.{weight,bias}"),
    Row("block_{1,2}.norm{1,2}.{weight,bias}", "blocks.{0,1}.{attention,mlp}_norm.{weight,bias}"),
    Row("block_{1,2}.attn.{q,k,v,proj}.{weight,bias}", "blocks.{0,1}.{query,key,value,output}.{weight,bias}"),
    Row("block_{1,2}.mlp.fc{1,2}.{weight,bias}", "blocks.{0,1}.mlp.{0,2}.{weight,bias}"),
    Row("block_2.attn_mask", None, "the constant mask of shifted windows, which our model computes"),
]
CLASSES = [
    Row("padding_{tokens,guidance}", "padding_{token,guidance}", "flattened", lambda token: (token.flatten(),)),
    Row("norm{1,2}.{weight,bias}", "{attention,mlp}_norm.{weight,bias}"),
    Row("attention.{q,k,v}.{weight,bias}", "{query,key,value}.{weight,bias}"),
    Row("MLP.{0,2}.{weight,bias}", "mlp.{0,2}.{weight,bias}"),
]
DECODER_STAGE = [
    *_same("up.{weight,bias}"),
    Row("conv.double_conv.{0,3}.weight", "{guided_conv,conv}.weight"),
    Row("conv.double_conv.{1,4}.{weight,bias}", "{guided_norm,norm}.{weight,bias}"),
]


def clip_table(visual_depth: int, text_depth: int) -> RenameTable:
    """CLIP as OpenAI published it, of so many blocks in each tower, into the names that open_clip reads."""
    blocks = "transformer.resblocks.#."
    return {
        **build_table(CLIP_VISUAL, "visual.", "visual."),
        **build_table(CLIP_PACKED_BLOCK, f"visual.{blocks}", f"visual.{blocks}", depth=visual_depth),
        **build_table(CLIP_TEXT),
        **build_table(CLIP_PACKED_BLOCK, blocks, blocks, depth=text_depth),
        **build_table(CLIP_SETTINGS),
    }


def model_table(depth: int, dino: Iterable[Row] = (), encoders: Mapping[str, str] | None = None) -> RenameTable:
    """A whole model: MM-OVSeg, GSNet or CAT-Seg.

    Args:
        depth: blocks of its image encoders.
        dino: the table of its DINO encoders.
        encoders: how their published names begin, and what we call them.
    """
    clip, head = "sem_seg_head.predictor.clip_model.", "sem_seg_head.predictor.transformer."
    blocks, layers = "transformer.resblocks.#.", f"{head}layers.{{0,1}}."
    stages = f"{head}Fusiondecoder{{1,2}}." if encoders else f"{head}decoder{{1,2}}."
    table = {
        **build_table(CLIP_VISUAL, f"{clip}visual.", "clip.encoder.visual."),
        **build_table(CLIP_SPLIT_BLOCK, f"{clip}visual.{blocks}", f"clip.encoder.visual.{blocks}", depth),
        **build_table([Row("upsample{1,2}.{weight,bias}", "clip.projection.{coarse,fine}.{weight,bias}")]),
        **build_table(CLIP_TEXT, clip, "text.tower."),
        **build_table(CLIP_SPLIT_BLOCK, f"{clip}{blocks}", f"text.tower.{blocks}", depth=12),
        **build_table([Row("logit_scale", None, "CLIP's temperature, which the cost volume does without")], clip),
        **build_table(HEAD_WITH_DINO if encoders else HEAD, head, "sem_seg_head."),
        **build_table(SPATIAL, f"{layers}swin_block.", "sem_seg_head.aggregator.spatial.{0,1}."),
        **build_table(CLASSES, f"{layers}attention.", "sem_seg_head.aggregator.classes.{0,1}."),
        **build_table(DECODER_STAGE, stages, "sem_seg_head.decoder.upsamplings.{0,1}."),
    }
    for published, ours in (encoders or {}).items():
        table |= build_table(dino, f"{published}model.", f"{ours}.encoder.model.", depth)
        table |= build_table(DINO_PROJECTION, published, f"{ours}.projection.")
    return table


def build_table(rows: Iterable[Row], published: str = "", ours: str = "", depth: int = 1) -> RenameTable:
    """The rows written out, with prefixes, which may be patterns too, before the names."""
    table: RenameTable = {}
    for row in rows:
        names = _expand(published + row.published, depth)
        targets = [] if row.ours is None else _expand(ours + row.ours, depth)
        each = len(targets) // len(names)  # targets of one published tensor
        for index, name in enumerate(names):
            table[name] = Rename(tuple(targets[index * each : (index + 1) * each]), row.derive, row.reason)
    return table


def _expand(pattern: str, depth: int) -> list[str]:
    pattern = pattern.replace("#", "{" + ",".join(str(block) for block in range(depth)) + "}")
    return ["".join(parts) for parts in itertools.product(*(part.split(",") for part in re.split("[{}]", pattern)))]
