"""Names of tensors in SegEarth-OV and in ours: CLIP as open_clip names it, and SimFeatUp."""

from collections.abc import Collection

from mm_ovseg.checkpoint.rename_tables import CLIP_TEXT, CLIP_VISUAL, RenameTable, Rows, expand_rows, split_block

__all__ = ["segearth_table"]

CLIP, UPSAMPLER = "net.", "upsampler."
BLOCKS = "transformer.resblocks.#."
BLOCK = split_block("attn.in_proj_", "attn.out_proj")
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
    table = expand_rows(SIMFEATUP, UPSAMPLER, UPSAMPLER)
    if any(name.startswith(CLIP) for name in names):
        table |= {
            **expand_rows(CLIP_VISUAL, f"{CLIP}visual.", "visual."),
            **expand_rows(BLOCK, f"{CLIP}visual.{BLOCKS}", f"visual.{BLOCKS}", depth=12),
            **expand_rows(CLIP_TEXT, CLIP, "text.tower."),
            **expand_rows(BLOCK, f"{CLIP}{BLOCKS}", f"text.tower.{BLOCKS}", depth=12),
            **expand_rows([("logit_scale", None, "CLIP's temperature; SegEarth-OV has its own")], CLIP),
        }
    return table
