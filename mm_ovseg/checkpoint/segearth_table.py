"""Names of tensors in SegEarth-OV and in ours: CLIP as open_clip names it, and SimFeatUp."""

from collections.abc import Collection

from mm_ovseg.checkpoint.rename_tables import (
    CLIP_BLOCK,
    CLIP_TEXT,
    CLIP_VISUAL,
    RenameTable,
    Rows,
    _table,
    _thirds,
)

__all__ = ["segearth_table"]

CLIP, UPSAMPLER = "net.", "upsampler."
BLOCKS = "transformer.resblocks.#."
BLOCK = [
    *CLIP_BLOCK,
    ("attn.in_proj_weight", "attn.{query,key,value}.weight", "split into those of queries, keys and values", _thirds),
    ("attn.in_proj_bias", "attn.{query,key,value}.bias", "split into those of queries, keys and values", _thirds),
    ("attn.out_proj.*", "attn.output.*"),
]
SIMFEATUP: Rows = [
    ("up.range_temp", "step.log_temperature"),
    ("up.sigma_spatial", "step.sigma"),
    ("up.range_proj.{0,3}.*", "step.embedding.{0,2}.*"),
    ("up.fixup_proj.{0,3}.*", "step.correction.{0,2}.*"),
    ("fixup_proj.1.weight", "projection.weight", "a 1x1 convolution as a linear layer", lambda x: [x.flatten(1)]),
    ("fixup_proj.1.bias", "projection.bias"),
]


def segearth_table(names: Collection[str]) -> RenameTable:
    """The table of the upsampler and, if it is among the names, of CLIP ViT-B/16."""
    table = _table(SIMFEATUP, UPSAMPLER, UPSAMPLER)
    if any(name.startswith(CLIP) for name in names):
        table |= {
            **_table(CLIP_VISUAL, f"{CLIP}visual.", "visual."),
            **_table(BLOCK, f"{CLIP}visual.{BLOCKS}", f"visual.{BLOCKS}", depth=12),
            **_table(CLIP_TEXT, CLIP, "text.tower."),
            **_table(BLOCK, f"{CLIP}{BLOCKS}", f"text.tower.{BLOCKS}", depth=12),
            **_table([("logit_scale", None, "CLIP's temperature; SegEarth-OV has its own")], CLIP),
        }
    return table
