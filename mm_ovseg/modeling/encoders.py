"""The image encoders of stage 2, with layers that project their outputs to common grids."""

from collections.abc import Callable, Mapping, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import nn

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone.clip import set_clip_trainable
from mm_ovseg.modeling.backbone.image_encoder import (
    EncoderFeatures,
    ImageEncoder,
    build_image_encoder,
    build_sar_twin,
)

__all__ = ["FeatureProjection", "ProjectedEncoder", "build_encoders", "encoder_names", "scale_layer"]


def scale_layer(in_channels: int, out_channels: int, in_size: int, out_size: int) -> nn.Module:
    """A learned layer from a grid of ``in_size`` to one of ``out_size`` tokens per side.

    A strided convolution shrinks the grid, a transposed one enlarges it, a 1x1 one keeps it; kernels never overlap.
    """
    if in_size % out_size == 0:
        stride = in_size // out_size
        return nn.Conv2d(in_channels, out_channels, kernel_size=stride, stride=stride)
    if out_size % in_size == 0:
        stride = out_size // in_size
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=stride, stride=stride)
    raise ConfigError(
        f"An encoder's grid of {in_size} tokens per side cannot be resized to {out_size}: one must divide the other. "
        "Change the encoder's IMAGE_SIZE (pixels) so that its token grid fits CLIP's."
    )


class FeatureProjection(nn.Module):
    """Project one encoder's outputs to the common grids.

    Args:
        input_shape: the encoder's ``output_shape()``.
        dense_channels: channels of the text embeddings; None if the dense feature is used as it is.
        guidance_channels: channels of the guidance at 2x and 4x of the dense grid.
        dense_size: tokens per side of the dense grid.
    """

    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        dense_channels: int | None,
        guidance_channels: Sequence[int],
        dense_size: int,
    ) -> None:
        super().__init__()
        dense = input_shape["dense"]
        self.dense = nn.Identity()
        if dense_channels is not None:
            self.dense = scale_layer(dense.channels, dense_channels, dense.height, dense_size)
        (coarse, fine), shapes = guidance_channels, input_shape
        self.coarse = scale_layer(shapes["coarse"].channels, coarse, shapes["coarse"].height, 2 * dense_size)
        self.fine = scale_layer(shapes["fine"].channels, fine, shapes["fine"].height, 4 * dense_size)

    def forward(self, features: EncoderFeatures) -> EncoderFeatures:
        """Project an encoder's features, with coarse and fine guidance."""
        coarse, fine = features.guidance
        return EncoderFeatures(self.dense(features.dense), (self.coarse(coarse), self.fine(fine)))


class ProjectedEncoder(nn.Module):
    """An image encoder and its projection."""

    def __init__(self, encoder: ImageEncoder, projection: FeatureProjection) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection

    def forward(self, images: Sequence[torch.Tensor] | torch.Tensor) -> EncoderFeatures:
        """Encode images (3, H, W) of any sizes, or (B, 3, H, W), 0..255, and project."""
        return self.projection(self.encode(images))

    def encode(self, images: Sequence[torch.Tensor] | torch.Tensor) -> EncoderFeatures:
        """The encoder's own features."""
        return self.encoder(self.encoder.preprocess(images))


def build_encoders(cfg: CfgNode) -> tuple[dict[str, ProjectedEncoder | None], tuple[nn.Module, Callable]]:
    """Build the image encoders of MODEL.CLIP, DENSE_ENCODER and their SAR twins.

    Only CLIP is trained, according to MODEL.CLIP.FINETUNE; the SAR twins were trained in stage 1.

    Returns:
        ``clip``, ``clip_sar``, ``dino`` and ``dino_sar``, each None if disabled; and CLIP's text tower and tokenizer.

    Raises:
        ConfigError, CheckpointError: an encoder cannot be built, or its weights cannot be read.
    """
    model = cfg.MODEL
    if model.DENSE_ENCODER_SAR.ENABLED and not model.DENSE_ENCODER.ENABLED:
        raise ConfigError(
            "MODEL.DENSE_ENCODER_SAR.ENABLED needs MODEL.DENSE_ENCODER.ENABLED: the SAR encoder is the RGB one's twin."
        )
    clip = build_image_encoder(cfg, "CLIP", blocks=[*model.CLIP.GUIDANCE_BLOCKS, -1], with_text=True)
    text_tower, tokenizer = clip.take_text_encoder()
    for tower in (clip, text_tower):
        set_clip_trainable(tower, model.CLIP.FINETUNE)
    if model.ACTIVATION_CHECKPOINTING:
        clip.recompute_activations()
        text_tower.set_grad_checkpointing()
    encoders = dict.fromkeys(("clip", "clip_sar", "dino", "dino_sar"))
    if model.DENSE_ENCODER.ENABLED:
        dense = build_image_encoder(cfg, "DENSE_ENCODER", blocks=model.DENSE_ENCODER.BLOCKS)
        dense.freeze()
        encoders["dino"], encoders["dino_sar"] = _with_twin(cfg, "DENSE_ENCODER", dense, clip)
    encoders["clip"], encoders["clip_sar"] = _with_twin(cfg, "CLIP", clip, clip)
    if model.COMPILE:
        for projected in filter(None, encoders.values()):
            projected.encoder.compile_blocks()
    return encoders, (text_tower, tokenizer)


def encoder_names(cfg: CfgNode) -> dict[str, str]:
    """The encoders that a config's model has: their keys under MODEL, such as DENSE_ENCODER_SAR, and their names.

    A baseline (mm_ovseg/baselines) has CLIP, and others of its own.
    """
    model = cfg.MODEL
    roles = ["CLIP"]
    if model.META_ARCHITECTURE == "MMOVSeg":
        roles += [role for role in ("CLIP_SAR", "DENSE_ENCODER", "DENSE_ENCODER_SAR") if model[role].ENABLED]
    elif model.META_ARCHITECTURE == "CrossModalUnification":
        role = "CLIP" if cfg.CMU.ENCODER == "clip" else "DENSE_ENCODER"
        roles = [role, f"{role}_SAR"]
    return {role: model[role.removesuffix("_SAR")].NAME for role in roles}


def _with_twin(
    cfg: CfgNode, role: str, encoder: ImageEncoder, clip: ImageEncoder
) -> tuple[ProjectedEncoder, ProjectedEncoder | None]:
    """An RGB encoder and its SAR twin, if any, projected to CLIP's grid and text."""

    def project(encoder: ImageEncoder) -> ProjectedEncoder:
        projection = FeatureProjection(
            input_shape=encoder.output_shape(),
            dense_channels=None if role == "CLIP" else clip.out_channels,
            guidance_channels=cfg.MODEL.GUIDANCE_WIDTHS,
            dense_size=clip.grid_size,
        )
        return ProjectedEncoder(encoder, projection)

    projected = project(encoder)
    if not cfg.MODEL[f"{role}_SAR"].ENABLED:
        return projected, None
    twin = build_sar_twin(cfg, role, encoder)
    twin.freeze()
    return projected, project(twin)
