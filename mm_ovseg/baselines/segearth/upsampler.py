"""SimFeatUp: features of a coarse grid, upsampled under the guidance of the image (arXiv 2410.01768)."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.checkpoint.encoder_weights import load_encoder_state_dict
from mm_ovseg.checkpoint.official import convert_official_state_dict, detect_variant
from mm_ovseg.checkpoint.state_dict import unwrap_state_dict
from mm_ovseg.checkpoint.weights_file import load_weights_file
from mm_ovseg.errors import CheckpointError
from mm_ovseg.modeling.precision import at_least_float32

__all__ = ["MIN_GRID", "SimFeatUp", "load_upsampler", "upsample_by_kernels"]

RADIUS = 5
DIAMETER = 2 * RADIUS + 1
MIN_GRID = 3  # tokens per side: twice as many are more than the radius, as reflection at the border needs
CORRECTION = 0.1  # weight of the learned corrections of the kernels and of the features

# The sum over the neighbourhood is a matrix product for each tile of pixels. Its pixels see TILE + 2 * RADIUS pixels
# a side of the features resized to twice their grid, which bicubic interpolation makes of SOURCE features.
TILE = 8
MARGIN = 4  # features before the first of a tile
SOURCE = TILE // 2 + 9


class SimFeatUp(nn.Module):
    """Doubles a map of features ``steps`` times, always with the same weights ("JBU-One").

    The weights start at zero, which stands for none: upsampling with random ones is noise. So does a checkpoint of a
    model without weights for its upsampler.

    Args:
        channels: C, of the features.
        steps: number of doublings.
        width: channels in which pixels are compared.

    Attributes:
        has_weights: whether weights have been loaded.
    """

    def __init__(self, channels: int, steps: int, width: int = 32) -> None:
        super().__init__()
        taps = DIAMETER**2
        self.steps = steps
        self.step = KernelPrediction(width, taps)
        self.projection = nn.Linear(channels, channels)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.has_weights = False
        self.register_load_state_dict_post_hook(_note_weights)

    def forward(self, features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Upsample.

        Args:
            features: (B, h, w, C), with h and w at least MIN_GRID.
            image: the normalised image, (B, 3, H, W), for guidance.

        Returns:
            (B, h * 2^steps, w * 2^steps, C).
        """
        for _ in range(self.steps):
            features = self.double(features, image)
        return torch.add(features, self.projection(features), alpha=CORRECTION)

    def double(self, features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """One step: (B, h, w, C) -> (B, 2h, 2w, C)."""
        _, height, width, _ = features.shape
        guidance = F.adaptive_avg_pool2d(image, (2 * height, 2 * width))
        return upsample_by_kernels(features, self.step(guidance))


def _note_weights(upsampler: SimFeatUp, _: object) -> None:
    upsampler.has_weights = bool(upsampler.projection.weight.any())


class KernelPrediction(nn.Module):
    """A kernel for every pixel, as in joint bilateral upsampling: large for pixels that are similar and near.

    Args:
        width: channels in which pixels are compared.
        taps: of a kernel, row by row.
    """

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.empty(()))
        self.sigma = nn.Parameter(torch.empty(()))  # 1: the radius
        self.embedding = nn.Sequential(nn.Conv2d(3, width, 1), nn.GELU(), nn.Conv2d(width, width, 1))
        self.correction = nn.Sequential(nn.Conv2d(taps + 3, taps, 1), nn.GELU(), nn.Conv2d(taps, taps, 1))

    def forward(self, guidance: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, taps, H, W), which do not sum exactly to 1 because of the correction."""
        kernels = self._similarity(guidance) * self._nearness()[:, None, None]
        kernels = kernels / kernels.sum(dim=1, keepdim=True).clamp(min=1e-7)
        return kernels + CORRECTION * self.correction(torch.cat([kernels, guidance], dim=1))

    def _similarity(self, guidance: torch.Tensor) -> torch.Tensor:
        pixels = at_least_float32(self.embedding(guidance))
        height, width = pixels.shape[2:]
        around = F.pad(pixels, [RADIUS] * 4, mode="reflect")
        products = [
            (around[:, :, row : row + height, column : column + width] * pixels).sum(dim=1)
            for row in range(DIAMETER)
            for column in range(DIAMETER)
        ]
        temperature = self.log_temperature.exp().clamp(1e-4, 1e4)
        return (temperature * torch.stack(products, dim=1)).softmax(dim=1)

    def _nearness(self) -> torch.Tensor:
        squares = torch.linspace(-1, 1, DIAMETER, dtype=self.sigma.dtype, device=self.sigma.device) ** 2
        return (-(squares[:, None] + squares) / (2 * self.sigma**2)).exp().flatten()


def upsample_by_kernels(features: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Resize features bicubically to twice their size, reflect them at the border, and sum them by kernels.

    Resizing and reflection are linear: instead of the large map they are applied to the kernels, which then weigh the
    small map's features. On a CPU that takes a quarter of the time, and the larger map is never in memory.

    Args:
        features: (B, h, w, C), with h and w at least MIN_GRID.
        kernels: (B, DIAMETER^2, 2h, 2w), row by row.

    Returns:
        (B, 2h, 2w, C): at each pixel the sum over its neighbourhood.
    """
    height, width = features.shape[1:3]
    rows, columns = _resizing(height, kernels), _resizing(width, kernels)
    below, right = (TILE * len(tiles) - 2 * length for tiles, length in ((rows, height), (columns, width)))

    kernels = F.pad(kernels, (0, right, 0, below)).unflatten(1, (DIAMETER, DIAMETER))
    kernels = kernels.unflatten(4, (-1, TILE)).unflatten(3, (-1, TILE))  # (B, 11, 11, rows, 8, columns, 8)
    # i, j: place in the kernel; y, x: tile; r, c: pixel in the tile; p, q: its source features.
    kernels = torch.einsum("bijyrxc,xcqj->bxcyriq", kernels, columns)
    kernels = torch.einsum("bxcyriq,yrpi->yxbrcpq", kernels, rows)
    kernels = kernels.flatten(5).flatten(3, 4)  # (rows, columns, B, 64, 169)

    features = F.pad(features, (0, 0, MARGIN, MARGIN + right // 2 + 1, MARGIN, MARGIN + below // 2 + 1))
    bands = features.unfold(1, SOURCE, TILE // 2).unfold(2, SOURCE, TILE // 2)  # (B, rows, columns, C, 13, 13)
    upsampled = []
    for row_kernels, band in zip(kernels, bands.unbind(1), strict=True):
        sources = band.permute(1, 0, 3, 4, 2).flatten(2, 3)  # (columns, B, 169, C)
        tiles = (row_kernels @ sources).unflatten(2, (TILE, TILE))  # (columns, B, 8, 8, C)
        upsampled.append(tiles.permute(1, 2, 0, 3, 4).flatten(2, 3))  # (B, 8, columns * 8, C)
    return torch.cat(upsampled, dim=1)[:, : 2 * height, : 2 * width]


def _resizing(length: int, like: torch.Tensor) -> torch.Tensor:
    """Bicubic resizing of a line of features to twice its length, with reflection at both ends, in tiles.

    Returns:
        (tiles, TILE, SOURCE, DIAMETER), of the type and device of ``like``: the weight of each source feature of a tile
        in each neighbour of each pixel.
    """
    unit = torch.eye(length, dtype=like.dtype, device=like.device)
    # Only the columns change their number: (length, 2 * length).
    resized = F.interpolate(unit[None, None], (length, 2 * length), mode="bicubic", align_corners=False)[0]
    weights = F.pad(resized, (RADIUS, RADIUS), mode="reflect")[0].T  # (2 * length + 10, length)
    tiles = math.ceil(2 * length / TILE)
    after = TILE * tiles - 2 * length
    weights = F.pad(weights, (MARGIN, MARGIN + after // 2 + 1, 0, after))
    seen, step = TILE + 2 * RADIUS, TILE // 2
    tiled = torch.stack([weights[TILE * k : TILE * k + seen, step * k : step * k + SOURCE] for k in range(tiles)])
    return tiled.unfold(1, DIAMETER, 1)  # (tiles, 8, 13, 11)


def load_upsampler(upsampler: SimFeatUp, path: str | Path) -> None:
    """Load weights of SimFeatUp: the published Lightning checkpoint, or a converted file of it or of the whole model.

    Args:
        upsampler: gets the weights.
        path: a local file, or ``hf://organisation/repository/file``.

    Raises:
        CheckpointError: the file is missing or unreadable, holds other objects than tensors, or other weights.
    """
    content = load_weights_file(path)
    try:
        state_dict = unwrap_state_dict(content)
        if detect_variant(state_dict) == "segearth":
            state_dict = convert_official_state_dict(state_dict, "segearth")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    prefix = "upsampler."
    own = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
    load_encoder_state_dict(upsampler, own, source=str(path))
