"""Positions of a map's cells as sines, which the published baselines add to the keys of attention."""

import math

import torch

__all__ = ["sine_position"]


def sine_position(
    height: int,
    width: int,
    channels_per_axis: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Embed the rows and columns of a map as sines and cosines of many wavelengths, as in DETR.

    Row or column i = 1..n has the angle 2 pi i / n, and channel k of its axis is the sine (k even) or cosine (k odd)
    of that angle / 10000 ** (2 * floor(k / 2) / channels_per_axis).

    Args:
        height, width: of the map, in cells.
        channels_per_axis: even.
        device, dtype: of the result.

    Returns:
        (2 * channels_per_axis, height, width), the channels of the row first.
    """
    channel = torch.arange(channels_per_axis, device=device)
    wavelength = 10000.0 ** (2 * (channel // 2) / channels_per_axis)
    quarter = torch.pi / 2 * (channel % 2)  # a cosine is a sine that is a quarter of a turn ahead

    def axis(cells: int) -> torch.Tensor:
        angle = torch.arange(1, cells + 1, device=device) * (2 * math.pi / (cells + 1e-6))
        return (angle / wavelength[:, None] + quarter[:, None]).sin().to(dtype)  # (channels_per_axis, cells)

    rows = axis(height)[:, :, None].expand(-1, -1, width)
    columns = axis(width)[:, None].expand(-1, height, -1)
    return torch.cat([rows, columns])
