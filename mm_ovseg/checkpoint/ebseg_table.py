"""Names of tensors in EBSeg's published checkpoint (``EBSeg_base.pth``) and in ours; see rename_tables.py."""

from mm_ovseg.checkpoint.rename_tables import (
    CLIP_BLOCK,
    CLIP_TEXT,
    CLIP_VISUAL,
    Rename,
    RenameTable,
    Rows,
    _table,
    _thirds,
)

__all__ = ["EBSEG_TABLE"]

SPLIT = "split into those of queries, keys and values"
TWICE = "stored twice, a second time for the recognition head"


def _block(packed: str, output: str) -> Rows:
    """A block of CLIP, with the names of the packed projection and of the output."""
    return [
        *CLIP_BLOCK,
        (f"attn.{packed}weight", "attn.{query,key,value}.weight", SPLIT, _thirds),
        (f"attn.{packed}bias", "attn.{query,key,value}.bias", SPLIT, _thirds),
        (f"attn.{output}.*", "attn.output.*"),
    ]


def _attention(layer: str, attention: str, our_attention: str, our_norm: str) -> Rows:
    """Attention and its norm in a layer of the transformer decoder."""
    return [
        (f"{layer}.{attention}.in_proj_{{weight,bias}}", f"layers.#.{our_attention}.in_proj_{{weight,bias}}"),
        (f"{layer}.{attention}.out_proj.*", f"layers.#.{our_attention}.out_proj.*"),
        (f"{layer}.norm.*", f"layers.#.{our_norm}.*"),
    ]


USUAL_BLOCK, SURGERY_BLOCK = _block("in_proj_", "out_proj"), _block("qkv.", "proj")
SAM_BLOCK = [
    ("{norm1,norm2,attn.qkv,attn.proj}.*", "{norm1,norm2,attn.qkv,attn.proj}.*"),
    ("attn.rel_pos_{h,w}", "attn.rel_pos_{h,w}"),
    ("mlp.lin{1,2}.*", "mlp.fc{1,2}.*"),
]
PIXEL_LAYER = [
    (
        "self_attn.{sampling_offsets,attention_weights,value_proj,output_proj}.*",
        "attention.{offsets,weights,value,output}.*",
    ),
    ("{norm1,norm2}.*", "{attention_norm,mlp_norm}.*"),
    ("linear{1,2}.*", "mlp.{0,2}.*"),
]
PIXEL_DECODER = [
    ("input_proj.{0,1,2}.{0,1}.*", "projections.{0,1,2}.{0,1}.*"),
    ("transformer.level_embed", "level_embed"),
    ("adapter_1.{weight,norm.weight,norm.bias}", "lateral.{weight,norm.weight,norm.bias}"),
    ("layer_1.{weight,norm.weight,norm.bias}", "smooth.{weight,norm.weight,norm.bias}"),
    ("mask_features.*", "mask_features.*"),
]
PREDICTOR = [
    *_attention("transformer_cross_attention_layers.#", "multihead_attn", "cross_attention", "cross_norm"),
    *_attention("transformer_self_attention_layers.#", "self_attn", "attention", "attention_norm"),
    ("transformer_ffn_layers.#.linear{1,2}.*", "layers.#.mlp.{0,2}.*"),
    ("transformer_ffn_layers.#.norm.*", "layers.#.mlp_norm.*"),
    ("decoder_norm.*", "norm.*"),
    ("{query_feat,query_embed,level_embed}.weight", "{query_feat,query_embed,level_embed}.weight"),
    ("{mask_embed,mask_embed1,attn_proj}.layers.{0,1,2}.*", "{mask_embed,class_embed,bias_proj}.{0,2,4}.*"),
    ("pool_proj.{0,1}.*", "pool_proj.{0,1}.*"),
    ("bias_scaling.*", "bias_scaling.*"),
    ("logit_scale", "logit_scale"),
]


def _ebseg_table() -> RenameTable:
    clip, again, text = "clip_visual_extractor.", "clip_rec_head.", "ov_classifier."
    blocks, head = "clip.visual.transformer.resblocks.", "sem_seg_head."
    return {
        **_table(CLIP_VISUAL, clip, "clip.visual."),
        **_table(USUAL_BLOCK, f"{clip}resblocks.{{0,1}}.", f"{blocks}{{0,1}}."),
        **_table(SURGERY_BLOCK, f"{clip}resblocks.{{2,3,4,5,6,7,8}}.", f"{blocks}{{2,3,4,5,6,7,8}}."),
        **_table(SURGERY_BLOCK, f"{again}resblocks.{{0,1,2}}.", f"{blocks}{{9,10,11}}."),
        **_table([("proj", None, TWICE), ("ln_post.*", None, TWICE)], again),
        **_table(CLIP_TEXT, text, "text.tower."),
        **_table(USUAL_BLOCK, f"{text}transformer.resblocks.#.", "text.tower.transformer.resblocks.#.", depth=12),
        **_table([("logit_scale", "logit_scale"), ("bg_embed", "no_object")], text),
        f"{text}attn_mask": Rename(reason="the constant causal mask, which our model computes"),
        "criterion.empty_weight": Rename(reason="constants of the loss, one for each class of its training"),
        **_table([("pos_embed", "pos_embed"), ("patch_embed.proj.*",) * 2], "backbone.", "sam.model."),
        **_table(SAM_BLOCK, "backbone.blocks.#.", "sam.model.blocks.#.", depth=12),
        **_table([("clip_fusion_layers.{0,1,2}.{0,1}.*", "fusion.layers.{0,1,2}.{0,1}.*")], head, head),
        **_table(PIXEL_DECODER, f"{head}pixel_decoder.", f"{head}pixel_decoder."),
        **_table(
            *(PIXEL_LAYER, f"{head}pixel_decoder.transformer.encoder.layers.#."),
            *(f"{head}pixel_decoder.layers.#.", 6),
        ),
        **_table(PREDICTOR, f"{head}predictor.", f"{head}transformer_decoder.", depth=9),
    }


EBSEG_TABLE = _ebseg_table()
