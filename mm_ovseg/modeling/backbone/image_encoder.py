"""What every image encoder shares: its input size and the normalisation of its input."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.common.registry import Registry
from torch import nn

from mm_ovseg.choices import check_registered
from mm_ovseg.errors import ConfigError

__all__ = ["IMAGE_ENCODER_REGISTRY", "ImageEncoder", "build_image_encoder"]

IMAGE_ENCODER_REGISTRY = Registry("IMAGE_ENCODER")
IMAGE_ENCODER_REGISTRY.__doc__ = """
Registry of classes derived from :class:`ImageEncoder` that take the arguments of
:class:`~mm_ovseg.modeling.backbone.dino.DINOEncoder` and return what it returns; MODEL.DINO.ENCODER names one.
"""


class ImageEncoder(nn.Module):
    """Base of all image encoders.

    Args:
        image_size: height and width in pixels that every image is resized to (bilinear).
        patch_size: side of one token in pixels.
        pixel_mean, pixel_std: three values on the 0..255 scale.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(
        self, *, image_size: int, patch_size: int, pixel_mean: Sequence[float], pixel_std: Sequence[float]
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.patch_size = patch_size
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @property
    def grid_size(self) -> int:
        """Tokens along each side of the dense grid."""
        return self.image_size // self.patch_size

    @property
    def transformer_blocks(self) -> Sequence[nn.Module]:
        """Blocks in order, for MODEL.COMPILE and for what stage 1 leaves out; none where there are no such blocks."""
        return ()

    def recompute_activations(self) -> None:
        """Keep only what enters a block for the backward pass (MODEL.ACTIVATION_CHECKPOINTING).

        Raises:
            ConfigError: the encoder cannot.
        """
        raise ConfigError(f"{type(self).__name__} cannot recompute; set MODEL.ACTIVATION_CHECKPOINTING to False.")

    def preprocess(self, images: Sequence[torch.Tensor] | torch.Tensor) -> torch.Tensor:
        """Normalise, resize and stack images of any sizes.

        Args:
            images: tensors (3, H, W), 0..255, of any real or integer type; or one (B, 3, H, W).

        Returns:
            (B, 3, image_size, image_size) float32 on the encoder's device.
        """
        if isinstance(images, torch.Tensor):
            return self._normalise(images)
        return torch.cat([self._normalise(image[None]) for image in images])

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 3, image_size, image_size)."""
        size = (self.image_size, self.image_size)
        images = (images.to(self.pixel_mean) - self.pixel_mean) / self.pixel_std
        # An exported graph is for images of any size.
        if torch.compiler.is_compiling() or images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        return images


def build_image_encoder(encoder: str, /, **arguments: Any) -> ImageEncoder:
    """Build the encoder that MODEL.DINO.ENCODER names.

    Args:
        encoder: in :data:`IMAGE_ENCODER_REGISTRY`.
        arguments: keywords, those of :class:`~mm_ovseg.modeling.backbone.dino.DINOEncoder`.

    Raises:
        ConfigError: there is no such encoder.
    """
    check_registered("MODEL.DINO.ENCODER", encoder, IMAGE_ENCODER_REGISTRY)
    return IMAGE_ENCODER_REGISTRY.get(encoder)(**arguments)
