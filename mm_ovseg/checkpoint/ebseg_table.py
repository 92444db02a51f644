"""Rows for the tensors of EBSeg beside CLIP's, as :mod:`mm_ovseg.checkpoint.rename_tables` explains them."""

__all__ = ["EBSEG_HEAD", "EBSEG_PIXEL_LAYER", "EBSEG_REST", "SAM", "SAM_BLOCK"]

SAM = [("pos_embed", "pos_embed"), ("patch_embed.proj.*", "patch_embed.proj.*")]
SAM_BLOCK = [
    ("{norm1,norm2,attn.qkv,attn.proj}.*", "{norm1,norm2,attn.qkv,attn.proj}.*"),
    ("attn.rel_pos_{h,w}", "attn.rel_pos_{h,w}"),
    ("mlp.lin{1,2}.*", "mlp.fc{1,2}.*"),
]
EBSEG_PIXEL_LAYER = [
    (
        "self_attn.{sampling_offsets,attention_weights,value_proj,output_proj}.*",
        "attention.{offsets,weights,value,output}.*",
    ),
    ("{norm1,norm2}.*", "{attention_norm,mlp_norm}.*"),
    ("linear{1,2}.*", "mlp.{0,2}.*"),
]
CROSS, ATTENTION = "predictor.transformer_cross_attention_layers.#", "predictor.transformer_self_attention_layers.#"
OUR_LAYER = "transformer_decoder.layers.#"
EBSEG_HEAD = [  # its # are the nine layers of the transformer decoder
    ("clip_fusion_layers.{0,1,2}.{0,1}.*", "fusion.layers.{0,1,2}.{0,1}.*"),
    ("pixel_decoder.input_proj.{0,1,2}.{0,1}.*", "pixel_decoder.projections.{0,1,2}.{0,1}.*"),
    ("pixel_decoder.transformer.level_embed", "pixel_decoder.level_embed"),
    ("pixel_decoder.{adapter_1,layer_1}.weight", "pixel_decoder.{lateral,smooth}.weight"),
    ("pixel_decoder.{adapter_1,layer_1}.norm.*", "pixel_decoder.{lateral,smooth}.norm.*"),
    ("pixel_decoder.mask_features.*", "pixel_decoder.mask_features.*"),
    (f"{CROSS}.multihead_attn.in_proj_*", f"{OUR_LAYER}.cross_attention.in_proj_*"),
    (f"{CROSS}.multihead_attn.out_proj.*", f"{OUR_LAYER}.cross_attention.out_proj.*"),
    (f"{CROSS}.norm.*", f"{OUR_LAYER}.cross_norm.*"),
    (f"{ATTENTION}.self_attn.in_proj_*", f"{OUR_LAYER}.attention.in_proj_*"),
    (f"{ATTENTION}.self_attn.out_proj.*", f"{OUR_LAYER}.attention.out_proj.*"),
    (f"{ATTENTION}.norm.*", f"{OUR_LAYER}.attention_norm.*"),
    ("predictor.transformer_ffn_layers.#.linear{1,2}.*", f"{OUR_LAYER}.mlp.{{0,2}}.*"),
    ("predictor.transformer_ffn_layers.#.norm.*", f"{OUR_LAYER}.mlp_norm.*"),
    *(
        (f"predictor.{x}.weight", f"transformer_decoder.{x}.weight")
        for x in ("query_feat", "query_embed", "level_embed")
    ),
    ("predictor.decoder_norm.*", "transformer_decoder.norm.*"),
    (
        "predictor.{mask_embed,mask_embed1,attn_proj}.layers.{0,1,2}.*",
        "transformer_decoder.{mask_embed,class_embed,bias_proj}.{0,2,4}.*",
    ),
    *((f"predictor.{x}.*", f"transformer_decoder.{x}.*") for x in ("pool_proj.0", "pool_proj.1", "bias_scaling")),
    ("predictor.logit_scale", "transformer_decoder.logit_scale"),
]
EBSEG_REST = [
    ("ov_classifier.{logit_scale,bg_embed}", "{logit_scale,no_object}"),
    ("ov_classifier.attn_mask", None, "the constant causal mask, which our model computes"),
    ("criterion.empty_weight", None, "constants of the loss, one for each class of its training"),
    ("clip_rec_head.{proj,ln_post.weight,ln_post.bias}", None, "stored twice"),
]
