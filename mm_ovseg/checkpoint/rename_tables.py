"""Names of tensors in published checkpoints and in ours.

A row is ``(published, ours)``, optionally with a reason and a function (see :class:`Rename`); ``ours`` is None if the
tensor is dropped. Patterns use brace expansion as in a shell: ``fc{1,2}`` is ``fc1`` and ``fc2``. ``*`` means
``{weight,bias}``, ``#`` the index of a block. Names are paired in order. Loading checks the shapes.
"""

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from mm_ovseg.checkpoint.ebseg_table import EBSEG_HEAD, EBSEG_PIXEL_LAYER, EBSEG_REST, SAM, SAM_BLOCK
from mm_ovseg.checkpoint.fgaseg_table import FGASEG_ROWS
from mm_ovseg.checkpoint.positional_embedding import resize_positional_embedding
from mm_ovseg.checkpoint.state_dict import TRAINING_HEADS

__all__ = ["ENCODERS", "MODEL_TABLES", "Rename", "RenameTable", "encoder_table", "expand_rows", "split_block"]


@dataclass(frozen=True)
class Rename:
    """The conversion of one published tensor.

    Attributes:
        targets: our names for it; empty if it is dropped.
        reason: why it is dropped, or what ``derive`` does.
        derive: computes one tensor per target; None if the tensor is kept as it is, for a single target.
    """

    targets: tuple[str, ...] = ()
    reason: str = ""
    derive: Callable[[torch.Tensor], Sequence[torch.Tensor]] | None = None


RenameTable = dict[str, Rename]  # by published name
Rows = list[tuple]


def _same(*patterns: str) -> Rows:
    return [(pattern, pattern) for pattern in patterns]


def _thirds(packed: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return packed.unflatten(0, (3, -1)).unbind()


SPLIT = "split into those of queries, keys and values"
TRAINING_ONLY = "used only in the encoder's own training"
DINO_BOTH = [
    *_same("cls_token", "{patch_embed.proj,norm}.*"),
    *_same("blocks.#.{norm1,norm2,attn.proj,mlp.fc1,mlp.fc2}.*", "blocks.#.attn.qkv.weight"),
    ("mask_token", None, TRAINING_ONLY),
]
DINO = [*DINO_BOTH, *_same("blocks.#.attn.qkv.bias", "pos_embed")]
DINO_48 = [
    *DINO_BOTH,
    *_same("blocks.#.attn.qkv.bias"),
    ("pos_embed", "pos_embed", "interpolated to 48 x 48 tokens", lambda x: [resize_positional_embedding(x, 48)]),
]
DINOV3 = [
    *DINO_BOTH,
    ("storage_tokens", "reg_token"),
    ("blocks.#.ls{1,2}.gamma", "blocks.#.gamma_{1,2}"),
    (
        "blocks.#.attn.qkv.bias",
        "blocks.#.attn.{q,v}_bias",
        "split (the keys' is masked to zero)",
        lambda x: _thirds(x)[::2],
    ),
    ("blocks.#.attn.qkv.bias_mask", None, "the constant that masks the bias of the keys"),
    ("rope_embed.periods", None, "constants, which timm computes"),
    ("local_cls_norm.*", None, TRAINING_ONLY),
]

CLIP_BLOCK = _same("{ln_1,mlp.c_fc,mlp.c_proj,ln_2}.*")
CLIP_PACKED_BLOCK = [*CLIP_BLOCK, *_same("attn.in_proj_{weight,bias}", "attn.out_proj.*")]
CLIP_SPLIT_BLOCK = [  # of CAT-Seg's CLIP and ours
    *CLIP_BLOCK,
    ("attn.{q,k,v}_proj_weight", "attn.{query,key,value}.weight"),
    ("attn.in_proj_bias", "attn.{query,key,value}.bias", SPLIT, _thirds),
    ("attn.out_proj.*", "attn.output.*"),
]
CLIP_VISUAL = _same("class_embedding", "positional_embedding", "proj", "conv1.weight", "ln_{pre,post}.*")
CLIP_TEXT = _same("positional_embedding", "text_projection", "token_embedding.weight", "ln_final.*")
CLIP_REST = [*_same("logit_scale"), ("{input_resolution,context_length,vocab_size}", None, "a setting, not a weight")]

DINO_PROJECTION = [("down_sample.*", "dense.*"), ("decod_proj{1,2}.*", "{coarse,fine}.*")]
HEAD = [  # with CLIP alone
    ("conv1.*", "cost_volume_embedding.clip.*"),
    ("guidance_projection.0.*", "aggregator.appearance_projection.*"),
    ("text_guidance_projection.0.*", "aggregator.text_projection.*"),
    ("decoder_guidance_projection.{0,1}.0.*", "decoder.guidance_projections.{0,1}.0.*"),
    ("head.*", "decoder.logits.*"),
]
HEAD_WITH_DINO = [
    *(row for row in HEAD if not row[0].startswith("decoder_")),
    ("{conv2,fusion_corr}.*", "cost_volume_embedding.{dino,fuse}.*"),
    ("CLIP_decoder_guidance_projection.{0,1}.0.*", "decoder.guidance_projections.{0,1}.0.*"),
    ("DINO_decoder_guidance_projection.{0,1}.0.*", "decoder.guidance_projections.{0,1}.1.*"),
]
SPATIAL = [
    *_same("guidance_norm.*"),
    ("block_{1,2}.norm{1,2}.*", "blocks.{0,1}.{attention,mlp}_norm.*"),
    ("block_{1,2}.attn.{q,k,v,proj}.*", "blocks.{0,1}.{query,key,value,output}.*"),
    ("block_{1,2}.mlp.fc{1,2}.*", "blocks.{0,1}.mlp.{0,2}.*"),
    ("block_2.attn_mask", None, "the constant mask of shifted windows, which our model computes"),
]
CLASSES = [
    ("padding_{tokens,guidance}", "padding_{token,guidance}", "flattened", lambda x: [x.flatten()]),
    ("norm{1,2}.*", "{attention,mlp}_norm.*"),
    ("attention.{q,k,v}.*", "{query,key,value}.*"),
    ("MLP.{0,2}.*", "mlp.{0,2}.*"),
]
DECODER_STAGE = [
    *_same("up.*"),
    ("conv.double_conv.{0,3}.weight", "{guided_conv,conv}.weight"),
    ("conv.double_conv.{1,4}.*", "{guided_norm,norm}.*"),
]


def encoder_table(variant: str, names: Collection[str]) -> RenameTable:
    """The table of ``"clip"``, ``"dino"`` or ``"dinov3"``, with the number of blocks found in the names."""

    def depth(prefix: str) -> int:
        return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})

    if variant != "clip":
        heads = [name for name in names if name.startswith(TRAINING_HEADS)]
        dropped = dict.fromkeys(heads, Rename(reason="a head of the encoder's own training"))
        return expand_rows(DINOV3 if variant == "dinov3" else DINO, depth=depth("blocks.")) | dropped
    blocks = "transformer.resblocks."
    return {
        **expand_rows(CLIP_VISUAL, "visual.", "visual."),
        **expand_rows(CLIP_PACKED_BLOCK, f"visual.{blocks}#.", f"visual.{blocks}#.", depth(f"visual.{blocks}")),
        **expand_rows([*CLIP_TEXT, *CLIP_REST]),
        **expand_rows(CLIP_PACKED_BLOCK, f"{blocks}#.", f"{blocks}#.", depth(blocks)),
    }


def _model_table(depth: int, dino: Rows | None = None, encoders: Mapping[str, str] | None = None) -> RenameTable:
    """A whole model with image encoders of ``depth`` blocks; ``encoders`` maps the prefixes of its DINOs to ours."""
    clip, head = "sem_seg_head.predictor.clip_model.", "sem_seg_head.predictor.transformer."
    blocks, layers = "transformer.resblocks.#.", f"{head}layers.{{0,1}}."
    stages = f"{head}Fusiondecoder{{1,2}}." if encoders else f"{head}decoder{{1,2}}."
    table = {
        **expand_rows(CLIP_VISUAL, f"{clip}visual.", "clip.encoder.visual."),
        **expand_rows(CLIP_SPLIT_BLOCK, f"{clip}visual.{blocks}", f"clip.encoder.visual.{blocks}", depth),
        **expand_rows([("upsample{1,2}.*", "clip.projection.{coarse,fine}.*")]),
        **expand_rows(CLIP_TEXT, clip, "text.tower."),
        **expand_rows(CLIP_SPLIT_BLOCK, f"{clip}{blocks}", f"text.tower.{blocks}", depth=12),
        **expand_rows([("logit_scale", None, "CLIP's temperature, which the cost volume does not use")], clip),
        **expand_rows(HEAD_WITH_DINO if encoders else HEAD, head, "sem_seg_head."),
        **expand_rows(SPATIAL, f"{layers}swin_block.", "sem_seg_head.aggregator.spatial.{0,1}."),
        **expand_rows(CLASSES, f"{layers}attention.", "sem_seg_head.aggregator.classes.{0,1}."),
        **expand_rows(DECODER_STAGE, stages, "sem_seg_head.decoder.upsamplings.{0,1}."),
    }
    for published, ours in (encoders or {}).items():
        table |= expand_rows(dino, f"{published}model.", f"{ours}.encoder.model.", depth)
        table |= expand_rows(DINO_PROJECTION, published, f"{ours}.projection.")
    return table


def _ebseg_table() -> RenameTable:
    """EBSeg, whose CLIP has its blocks in two parts, and other names in those of its second stream."""
    clip, again, text = "clip_visual_extractor.", "clip_rec_head.", "ov_classifier."
    blocks, layers = "clip.visual.transformer.resblocks.", "sem_seg_head.pixel_decoder."
    usual, streamed = split_block("attn.in_proj_", "attn.out_proj"), split_block("attn.qkv.", "attn.proj")
    return {
        **expand_rows(CLIP_VISUAL, clip, "clip.visual."),
        **expand_rows(usual, f"{clip}resblocks.{{0,1}}.", f"{blocks}{{0,1}}."),
        **expand_rows(streamed, f"{clip}resblocks.{{2,3,4,5,6,7,8}}.", f"{blocks}{{2,3,4,5,6,7,8}}."),
        **expand_rows(streamed, f"{again}resblocks.{{0,1,2}}.", f"{blocks}{{9,10,11}}."),
        **expand_rows(CLIP_TEXT, text, "text.tower."),
        **expand_rows(usual, f"{text}transformer.resblocks.#.", "text.tower.transformer.resblocks.#.", depth=12),
        **expand_rows(SAM, "backbone.", "sam.model."),
        **expand_rows(SAM_BLOCK, "backbone.blocks.#.", "sam.model.blocks.#.", depth=12),
        **expand_rows(EBSEG_PIXEL_LAYER, f"{layers}transformer.encoder.layers.#.", f"{layers}layers.#.", depth=6),
        **expand_rows(EBSEG_HEAD, "sem_seg_head.", "sem_seg_head.", depth=9),
        **expand_rows(EBSEG_REST),
    }


def split_block(packed: str, output: str) -> Rows:
    """A block of CLIP with packed projections, as our blocks have them."""
    return [
        *CLIP_BLOCK,
        *((f"{packed}{kind}", f"attn.{{query,key,value}}.{kind}", SPLIT, _thirds) for kind in ("weight", "bias")),
        (f"{output}.*", "attn.output.*"),
    ]


def expand_rows(rows: Rows, published: str = "", ours: str = "", depth: int = 1) -> RenameTable:
    """Expand rows; ``published`` and ``ours`` are prefixes, which may also be patterns."""
    table: RenameTable = {}
    for source, target, *rest in rows:
        names = _expand(published + source, depth)
        targets = [] if target is None else _expand(ours + target, depth)
        each = len(targets) // len(names)  # targets per published tensor
        for index, name in enumerate(names):
            table[name] = Rename(tuple(targets[index * each : (index + 1) * each]), *rest)
    return table


def _expand(pattern: str, depth: int) -> list[str]:
    blocks = ",".join(str(block) for block in range(depth))
    pattern = pattern.replace("*", "{weight,bias}").replace("#", f"{{{blocks}}}")
    return ["".join(parts) for parts in itertools.product(*(part.split(",") for part in re.split("[{}]", pattern)))]


ENCODERS = ("dino", "dinov3", "clip")  # see encoder_table
MODEL_TABLES = {
    "vitb16": _model_table(12, DINO_48, {"dino_": "dino", "dino_sar": "dino_sar"}),
    "vitl14": _model_table(24, DINOV3, {"dino_": "dino", "dino_sar": "dino_sar"}),
    "gsnet": _model_table(12, DINO_48, {"dino_": "dino"}),
    "catseg": _model_table(12),
    "ebseg": _ebseg_table(),
    "fgaseg": _model_table(12) | expand_rows(FGASEG_ROWS, "sem_seg_head.predictor.", "sem_seg_head."),
}
