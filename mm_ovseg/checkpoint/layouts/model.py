"""Layouts of whole models: MM-OVSeg and the siblings that are the same program with parts left out."""

from dataclasses import dataclass

from mm_ovseg.checkpoint.layouts.encoders import (
    ClipSize,
    VitSize,
    clip_towers,
    dino_layout,
    dinov3_layout,
    split_attention,
)
from mm_ovseg.checkpoint.layouts.entry import Layout, affine, derive, drop, keep, placed

__all__ = ["ModelSize", "model_layout"]

GRID_SIZE = 24  # dense tokens a side
DINO_IMAGE_SIZE = 384  # pixels
GUIDANCE_WIDTHS = (256, 128)  # channels of the encoders' guidance at 2x and 4x
COST_WIDTH = 128  # channels of the embedded cost volume
TEXT_WIDTH = 128  # channels of the projected guidance of the aggregator
LAYERS = 2  # of the aggregator
DECODER_WIDTHS = (64, 32)  # channels at 2x and 4x
DECODER_GUIDANCE_WIDTHS = (32, 16)

PREDICTOR = "sem_seg_head.predictor."
HEAD = "sem_seg_head."


@dataclass(frozen=True)
class ModelSize:
    """Which encoders a model has, and of what size. ``dino_sar`` says whether DINO has a SAR twin."""

    clip: ClipSize
    dino: VitSize | None = None
    dino_sar: bool = False


def model_layout(size: ModelSize) -> Layout:
    """A released checkpoint of MM-OVSeg, GSNet (without SAR) or CAT-Seg (without DINO), into our models."""
    visual, text = clip_towers(size.clip, split_attention)
    layout = {
        **placed(visual, f"{PREDICTOR}clip_model.visual.", "clip.encoder.visual."),
        **placed(text, f"{PREDICTOR}clip_model.", "text.tower."),
        **drop(f"{PREDICTOR}clip_model.logit_scale", "CLIP's temperature, which the cost volume does without"),
    }
    for index, (name, width) in enumerate(zip(("coarse", "fine"), GUIDANCE_WIDTHS, strict=True)):
        layout |= _scaling(f"upsample{index + 1}", f"clip.projection.{name}", size.clip.visual.width, width, 2 << index)
    if size.dino is not None:
        layout |= _dino(size.dino, "dino_model.", "dino_", "dino.", size.clip.embedding)
        if size.dino_sar:
            layout |= _dino(size.dino, "dino_sarmodel.", "dino_sar", "dino_sar.", size.clip.embedding)
    head = _cost_volume_embedding(size.dino is not None)
    head |= _aggregator(size.clip.embedding)
    head |= _decoder(size.dino is not None)
    return layout | placed(head, f"{PREDICTOR}transformer.", HEAD)


def _dino(size: VitSize, source: str, projections: str, target: str, embedding: int) -> Layout:
    """One DINO and the layers that bring its outputs to the common grids."""
    grid_size = DINO_IMAGE_SIZE // size.patch_size
    encoder = dino_layout(size, grid_size) if size.positions else dinov3_layout(size)
    scale = GRID_SIZE / grid_size
    coarse, fine = GUIDANCE_WIDTHS
    return {
        **placed(encoder, source, f"{target}encoder.model."),
        **_scaling(f"{projections}down_sample", f"{target}projection.dense", size.width, embedding, scale),
        **_scaling(f"{projections}decod_proj1", f"{target}projection.coarse", size.width, coarse, 2 * scale),
        **_scaling(f"{projections}decod_proj2", f"{target}projection.fine", size.width, fine, 4 * scale),
    }


def _scaling(source: str, target: str, channels: int, width: int, scale: float) -> Layout:
    """A convolution that shrinks the map, or, for a scale above 1, a transposed one that enlarges it."""
    if scale > 1:
        return affine(source, target, channels, width, *2 * [int(scale)], bias=width)
    return affine(source, target, width, channels, *2 * [int(1 / scale)])


def _cost_volume_embedding(with_dino: bool) -> Layout:
    def convolution(source: str, target: str, channels: int) -> Layout:
        return affine(source, f"cost_volume_embedding.{target}", COST_WIDTH, channels, 7, 7)

    layout = convolution("conv1", "clip", 1)
    if with_dino:
        layout |= convolution("conv2", "dino", 1) | convolution("fusion_corr", "fuse", 2 * COST_WIDTH)
    return layout


def _aggregator(embedding: int) -> Layout:
    layout = {
        **affine("guidance_projection.0", "aggregator.appearance_projection", TEXT_WIDTH, embedding, 3, 3),
        **affine("text_guidance_projection.0", "aggregator.text_projection", TEXT_WIDTH, embedding),
    }
    for index in range(LAYERS):
        layout |= placed(_spatial(), f"layers.{index}.swin_block.", f"aggregator.spatial.{index}.")
        layout |= placed(_classes(), f"layers.{index}.attention.", f"aggregator.classes.{index}.")
    return layout


def _spatial() -> Layout:
    width = COST_WIDTH
    block = {
        **affine("norm1", "attention_norm", width),
        **affine("attn.q", "query", width, width + TEXT_WIDTH),
        **affine("attn.k", "key", width, width + TEXT_WIDTH),
        **affine("attn.v", "value", width, width),
        **affine("attn.proj", "output", width, width),
        **affine("norm2", "mlp_norm", width),
        **affine("mlp.fc1", "mlp.0", 4 * width, width),
        **affine("mlp.fc2", "mlp.2", width, 4 * width),
    }
    return {
        **affine("guidance_norm", "guidance_norm", TEXT_WIDTH),
        **placed(block, "block_1.", "blocks.0."),
        **placed(block, "block_2.", "blocks.1."),
        **drop("block_2.attn_mask", "the constant mask of shifted windows, which our model computes"),
    }


def _classes() -> Layout:
    width = COST_WIDTH

    def padding(source: str, target: str, channels: int) -> Layout:
        return derive(source, (target,), 1, 1, channels, by=lambda token: (token.flatten(),), reason="flattened")

    return {
        **padding("padding_tokens", "padding_token", width),
        **padding("padding_guidance", "padding_guidance", TEXT_WIDTH),
        **affine("norm1", "attention_norm", width),
        **affine("attention.q", "query", width, width + TEXT_WIDTH),
        **affine("attention.k", "key", width, width + TEXT_WIDTH),
        **affine("attention.v", "value", width, width),
        **affine("norm2", "mlp_norm", width),
        **affine("MLP.0", "mlp.0", 4 * width, width),
        **affine("MLP.2", "mlp.2", width, 4 * width),
    }


def _decoder(with_dino: bool) -> Layout:
    encoders = ("CLIP_", "DINO_") if with_dino else ("",)  # as the names of the projections begin
    stage = "Fusiondecoder" if with_dino else "decoder"
    layout = affine("head", "decoder.logits", 1, DECODER_WIDTHS[-1], 3, 3)
    channels = COST_WIDTH
    for level, (width, guidance) in enumerate(zip(DECODER_WIDTHS, DECODER_GUIDANCE_WIDTHS, strict=True)):
        for index, encoder in enumerate(encoders):
            layout |= affine(
                f"{encoder}decoder_guidance_projection.{level}.0",
                f"decoder.guidance_projections.{level}.{index}",
                *(guidance, GUIDANCE_WIDTHS[level], 3, 3),
            )
        up = channels - guidance
        convolutions = "conv.double_conv."
        upsampling = {
            **affine("up", "up", channels, up, 2, 2, bias=up),
            **keep(f"{convolutions}0.weight", "guided_conv.weight", width, up + guidance * len(encoders), 3, 3),
            **affine(f"{convolutions}1", "guided_norm", width),
            **keep(f"{convolutions}3.weight", "conv.weight", width, width, 3, 3),
            **affine(f"{convolutions}4", "norm", width),
        }
        layout |= placed(upsampling, f"{stage}{level + 1}.", f"decoder.upsamplings.{level}.")
        channels = width
    return layout
