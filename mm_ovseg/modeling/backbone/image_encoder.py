"""What every image encoder shares: its input size and the normalisation of its input."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ImageEncoder"]


class ImageEncoder(nn.Module):
    """Base of the CLIP and DINO encoders.

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

    def preprocess(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Normalise, resize and stack images of any sizes.

        Args:
            images: tensors (3, H, W), 0..255, of any real or integer type.

        Returns:
            (B, 3, image_size, image_size) float32 on the encoder's device.
        """
        size = (self.image_size, self.image_size)
        batch = []
        for image in images:
            image = (image.to(self.pixel_mean) - self.pixel_mean) / self.pixel_std
            if image.shape[-2:] != size:
                image = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
            batch.append(image)
        return torch.stack(batch)
