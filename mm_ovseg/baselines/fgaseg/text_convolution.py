"""Convolutions whose kernels come from the text: the local correlation, and the branch that aligns both spaces."""

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import nn

from mm_ovseg.choices import check_choice
from mm_ovseg.errors import ConfigError

__all__ = ["AlignmentBranch", "TextConvolution"]

ALIGNMENT_KERNEL_SIZE = 3


class TextConvolution(nn.Module):
    """Convolve a map with a kernel and a bias for each class, linear in its text embedding.

    Args:
        text_channels, channels: of the text and of the map.
        kernel_size: odd.
        weighs_places: a softmax over the places of each channel of the kernel, which then averages the neighbourhood.
    """

    def __init__(self, *, text_channels: int, channels: int, kernel_size: int, weighs_places: bool = False) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(f"MODEL.FGASEG.KERNEL_SIZE is {kernel_size}; it must be odd.")
        self.kernel_size = kernel_size
        self.weighs_places = weighs_places
        self.linear = nn.Linear(text_channels, channels * kernel_size**2 + 1)

    def forward(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, h, w), with zeros around it, for the text (B, T, C'); (B, T, h, w)."""
        kernels, bias = self.linear(text).split([self.linear.out_features - 1, 1], dim=-1)
        kernels = kernels.unflatten(-1, (-1, self.kernel_size**2))  # (B, T, C, places)
        if self.weighs_places:
            kernels = kernels.softmax(dim=-1)
        # A convolution is a sum of shifted products, one for each place of the kernel. That needs far less memory than
        # the neighbourhoods of all cells; and fold() shifts the other way round, hence the flip.
        products = kernels.flip(-1).transpose(2, 3).flatten(1, 2) @ features.flatten(2)  # (B, T * places, h * w)
        maps = F.fold(products, features.shape[-2:], self.kernel_size, padding=self.kernel_size // 2)
        return maps + bias[..., None]


class AlignmentBranch(nn.Module):
    """CLIP's dense feature, enlarged and convolved with kernels of the text; only the loss uses it.

    Args:
        channels: of the dense feature and of the text.
        norm: of the convolutions, ``"BN"`` or ``"SyncBN"``, over all processes.
    """

    def __init__(self, *, channels: int, norm: str) -> None:
        super().__init__()
        check_choice("MODEL.FGASEG.NORM", norm, ("BN", "SyncBN"))
        width = channels // 2

        def convolution(out_channels: int) -> nn.Module:
            normalisation = get_norm(norm, out_channels)
            return Conv2d(channels, out_channels, 3, padding=1, bias=False, norm=normalisation, activation=F.relu)

        self.coarse = convolution(channels)
        self.fine = convolution(width)
        self.projection = nn.Conv2d(width, width, kernel_size=1)
        self.convolution = TextConvolution(text_channels=channels, channels=width, kernel_size=ALIGNMENT_KERNEL_SIZE)

    def forward(self, dense: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, 4h, 4w) of the dense feature (B, C, h, w) and the refined text (B, T, C)."""
        x = dense
        for convolution in (self.coarse, self.fine):
            x = convolution(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return self.convolution(self.projection(x), text)
