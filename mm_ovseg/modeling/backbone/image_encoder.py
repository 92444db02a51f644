"""The interface of image encoders, and the registry that builds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from fvcore.common.registry import Registry
from torch import nn

from mm_ovseg.choices import check_registered
from mm_ovseg.errors import ConfigError

__all__ = ["IMAGE_ENCODER_REGISTRY", "EncoderFeatures", "ImageEncoder", "build_image_encoder", "build_sar_twin"]

IMAGE_ENCODER_REGISTRY = Registry("IMAGE_ENCODER")
IMAGE_ENCODER_REGISTRY.__doc__ = """
Registry of subclasses of :class:`ImageEncoder`, which take the keywords listed in :func:`build_image_encoder`;
MODEL.CLIP.TYPE and MODEL.DENSE_ENCODER.TYPE each name one.
"""


@dataclass
class EncoderFeatures:
    """The output of an image encoder and, projected to common grids, the input of the head.

    Attributes:
        dense: (B, C, h, w), which the head compares with the text embeddings.
        guidance: from an encoder, a map (B, D, h, w) for each other requested block; for the head, (B, G0, 2h, 2w)
            and (B, G1, 4h, 4w).
    """

    dense: torch.Tensor
    guidance: tuple[torch.Tensor, ...]

    def __add__(self, other: "EncoderFeatures") -> "EncoderFeatures":
        guidance = (ours + theirs for ours, theirs in zip(self.guidance, other.guidance, strict=True))
        return EncoderFeatures(self.dense + other.dense, tuple(guidance))

    def where(self, chosen: Sequence[bool], others: "EncoderFeatures") -> "EncoderFeatures":
        """The features of the chosen images of the batch, and ``others`` of the rest."""
        if all(chosen):
            return self
        mask = torch.tensor(chosen).to(self.dense.device, non_blocking=True)[:, None, None, None]  # (B, 1, 1, 1)
        pairs = zip(self.guidance, others.guidance, strict=True)
        guidance = tuple(torch.where(mask, ours, theirs) for ours, theirs in pairs)
        return EncoderFeatures(torch.where(mask, self.dense, others.dense), guidance)

    def take(self, places: Sequence[int]) -> "EncoderFeatures":
        """The features of some images of the batch."""
        return EncoderFeatures(self.dense[places], tuple(guidance[places] for guidance in self.guidance))


class ImageEncoder(nn.Module):
    """Base of all image encoders. ``forward`` maps the result of :meth:`preprocess` to EncoderFeatures.

    Args:
        image_size: height and width in pixels to which images are resized (bilinear).
        patch_size: side of a token in pixels.
        blocks: 1-based; the last one's output is the dense feature, the others' outputs are the guidance.
        out_channels: channels of the dense feature.
        guidance_channels: channels of the guidance; None for the same number.
        pixel_mean, pixel_std: three values on the 0..255 scale.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        blocks: Sequence[int],
        out_channels: int,
        guidance_channels: int | None = None,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.patch_size = patch_size
        self.blocks = tuple(blocks)
        self.out_channels = out_channels
        self.guidance_channels = guidance_channels or out_channels
        self.is_frozen = False
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @property
    def grid_size(self) -> int:
        """Tokens along each side of the dense feature."""
        return self.image_size // self.patch_size

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels, grid and stride (pixels) of ``"dense"``, and of the ``"coarse"`` and the ``"fine"`` guidance, as in
        Detectron2's backbones. In a ViT all have one grid.
        """
        size, stride = self.grid_size, self.patch_size
        guidance = ShapeSpec(channels=self.guidance_channels, height=size, width=size, stride=stride)
        dense = ShapeSpec(channels=self.out_channels, height=size, width=size, stride=stride)
        return {"dense": dense, "coarse": guidance, "fine": guidance}

    @property
    def transformer_blocks(self) -> Sequence[nn.Module]:
        """Blocks in order, each called as a whole, for MODEL.COMPILE; empty without such blocks."""
        return ()

    def compile_blocks(self) -> None:
        """Compile each block when it is first called (MODEL.COMPILE); equal blocks share one compilation."""
        for block in self.transformer_blocks:
            block.compile()

    def recompute_activations(self) -> None:
        """Store only the inputs of blocks for the backward pass (MODEL.ACTIVATION_CHECKPOINTING).

        Raises:
            ConfigError: the encoder does not support it.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot recompute activations; set MODEL.ACTIVATION_CHECKPOINTING to False."
        )

    def freeze(self) -> None:
        """Freeze all parameters, and stay in evaluation mode, so that nothing is random."""
        self.is_frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Switch the mode, unless the encoder is frozen."""
        return super().train(mode and not self.is_frozen)

    def preprocess(self, images: Sequence[torch.Tensor] | torch.Tensor) -> torch.Tensor:
        """Normalise, resize and stack images of any sizes.

        Args:
            images: tensors (3, H, W), 0..255, of any real or integer type; or one (B, 3, H, W).

        Returns:
            (B, 3, image_size, image_size) float32 on the encoder's device.
        """
        if not isinstance(images, torch.Tensor):
            return torch.cat([self.preprocess(image[None]) for image in images])
        size = (self.image_size, self.image_size)
        images = (images.to(self.pixel_mean) - self.pixel_mean) / self.pixel_std
        # An exported graph accepts images of any size.
        if torch.compiler.is_compiling() or images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        return images


def build_image_encoder(cfg: CfgNode, role: str, *, blocks: Sequence[int], **settings: Any) -> ImageEncoder:
    """Build the RGB encoder for a role.

    Its class takes the keywords ``name``, ``arguments``, ``weights``, ``image_size``, ``blocks``, ``pixel_mean`` and
    ``pixel_std``.

    Args:
        cfg: the config.
        role: ``"CLIP"`` or ``"DENSE_ENCODER"``, whose TYPE in MODEL names the class.
        blocks: see :class:`ImageEncoder`.
        settings: further keywords.

    Raises:
        ConfigError: TYPE is not registered, or PyTorch's default type is not float32.
    """
    if torch.get_default_dtype() is not torch.float32:
        raise ConfigError(
            f"PyTorch's default type is {torch.get_default_dtype()}, but models are built in float32; call "
            "torch.set_default_dtype(torch.float32) before, and choose half precision with MODEL.INFERENCE_DTYPE or "
            "SOLVER.AMP."
        )
    node = cfg.MODEL[role]
    return _build(cfg, role, weights=node.PRETRAINED, statistics=node, blocks=blocks, **settings)


def build_sar_twin(cfg: CfgNode, role: str, rgb_encoder: ImageEncoder) -> ImageEncoder:
    """Build the SAR twin of an encoder from :func:`build_image_encoder`, with its own weights and statistics.

    Without WEIGHTS it is a copy, including random weights.
    """
    twin = cfg.MODEL[f"{role}_SAR"]
    encoder = _build(cfg, role, weights=twin.WEIGHTS, statistics=twin, blocks=rgb_encoder.blocks)
    if not twin.WEIGHTS:
        encoder.load_state_dict(rgb_encoder.state_dict())
    return encoder


def _build(cfg: CfgNode, role: str, *, statistics: CfgNode, **keywords: Any) -> ImageEncoder:
    node = cfg.MODEL[role]
    check_registered(f"MODEL.{role}.TYPE", node.TYPE, IMAGE_ENCODER_REGISTRY)
    return IMAGE_ENCODER_REGISTRY.get(node.TYPE)(
        name=node.NAME,
        arguments=node.ARGUMENTS,
        image_size=node.IMAGE_SIZE,
        pixel_mean=statistics.PIXEL_MEAN,
        pixel_std=statistics.PIXEL_STD,
        **keywords,
    )
