"""Augmentations of scenes, drawn for each image, that make aerial photographs resemble satellite images in between."""

import torch
import torch.nn.functional as F

__all__ = ["augment_colors", "random_views"]

GREY = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def random_views(images: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Random crops, scaled, flipped and rotated: (B, 3, H, W) uint8 -> (B, 3, size, size) float32, 0..255.

    The side of the crops is drawn once for the batch, from half of an image to all of it, their place for each image.
    """
    side = images.shape[-1]
    crop = int(torch.randint(side // 2, side + 1, (), generator=generator))
    places = torch.randint(0, side - crop + 1, (len(images), 2), generator=generator).tolist()
    views = torch.stack(
        [image[:, y : y + crop, x : x + crop] for image, (y, x) in zip(images, places, strict=True)]
    ).float()
    views = F.interpolate(views, (size, size), mode="bilinear", antialias=crop > size, align_corners=False)
    turns, flip = torch.randint(0, 4, (2,), generator=generator).tolist()
    views = torch.rot90(views, turns, dims=(2, 3))
    return views.flip(3) if flip % 2 else views


def augment_colors(images: torch.Tensor, generator: torch.Generator, strength: float = 1.0) -> torch.Tensor:
    """Change brightness, contrast, saturation, tint and haze of images (B, 3, H, W), 0..255, each by its own draw."""

    def draw(low: float, high: float, channels: int = 1) -> torch.Tensor:
        middle, half = (low + high) / 2, (high - low) / 2 * strength
        return middle + half * (2 * torch.rand((len(images), channels, 1, 1), generator=generator) - 1)

    grey = (images * GREY).sum(dim=1, keepdim=True)
    images = grey + (images - grey) * draw(0.5, 1.5)
    mean = images.mean(dim=(2, 3), keepdim=True)
    images = mean + (images - mean) * draw(0.5, 1.5)
    images = images * draw(0.6, 1.4) * draw(0.85, 1.15, 3) + draw(-30, 30) + draw(-8, 8, 3)
    noise = torch.randn(images.shape, generator=generator) * draw(-6, 6).clamp(min=0)
    return (images + noise).clamp(0, 255)
