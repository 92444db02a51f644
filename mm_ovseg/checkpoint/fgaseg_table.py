"""Rows for the tensors that FGAseg has beyond CAT-Seg, as :mod:`mm_ovseg.checkpoint.rename_tables` explains them.

FGAseg's authors publish no weights: this serves those who trained the released code themselves.
"""

__all__ = ["FGASEG_ROWS"]

NORM = "{weight,bias,running_mean,running_var,num_batches_tracked}"
LOCAL_UPSAMPLING = "transformer.corr_local_decoder_projection"
FGASEG_ROWS = [
    ("DCDT.gamma_text", "text_refinement.scale"),
    ("DCDT.cross_atten_text.0.multihead_attn.in_proj_*", "text_refinement.layers.0.attention.in_proj_*"),
    ("DCDT.cross_atten_text.0.multihead_attn.out_proj.*", "text_refinement.layers.0.attention.out_proj.*"),
    ("DCDT.cross_atten_text.0.{MLP,norm}.*", "text_refinement.layers.0.{linear,norm}.*"),
    ("proj.vis.{1,3}.0.weight", "alignment.{coarse,fine}.weight"),
    (f"proj.vis.{{1,3}}.1.{NORM}", f"alignment.{{coarse,fine}}.norm.{NORM}"),
    ("proj.vis.4.*", "alignment.projection.*"),
    ("proj.txt.*", "alignment.convolution.linear.*"),
    ("transformer.conv2.*", "local_embedding.clip.*"),
    ("transformer.Local_align.txt.*", "local_correlation.linear.*"),
    ("transformer.{conv_cat,conv_cat_decoder_1,conv_cat_decoder_2}.*", "fusions.{0,1,2}.*"),
    ("transformer.head_auxi_{0,1,2}.*", "auxiliary.{0,1,2}.*"),
    (f"{LOCAL_UPSAMPLING}.0.*", "local_upsampling.up.*"),
    (f"{LOCAL_UPSAMPLING}.1.double_conv.{{0,3}}.weight", "local_upsampling.{guided_conv,conv}.weight"),
    (f"{LOCAL_UPSAMPLING}.1.double_conv.{{1,4}}.*", "local_upsampling.{guided_norm,norm}.*"),
]
