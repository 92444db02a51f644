"""Guided upsampling of the aggregated cost volume to a quarter of the input's resolution."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import nn

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.cpu_kernels import channels_last
from mm_ovseg.modeling.memory import by_class_chunks, recomputed

__all__ = ["GuidedDecoder", "GuidedUpsampling", "class_logits"]

CHANNELS_PER_GROUP = 16


class GuidedUpsampling(nn.Module):
    """Upsample every class's map by 2 and refine it with guidance that all classes share.

    The input of the first convolution is [map; guidance]. A convolution of concatenated inputs is a sum, so the
    guidance's part is computed once per image and added to every class. The upsampled map has ``up_channels``. Without
    guidance, of 0 channels, it upsamples and refines alone.
    """

    def __init__(self, *, in_channels: int, guidance_channels: int, up_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up_channels = up_channels
        self.up = nn.ConvTranspose2d(in_channels, up_channels, kernel_size=2, stride=2)
        self.guided_conv = nn.Conv2d(
            up_channels + guidance_channels, out_channels, kernel_size=3, padding=1, bias=False
        )
        self.guided_norm = nn.GroupNorm(out_channels // CHANNELS_PER_GROUP, out_channels)
        self.conv = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm = nn.GroupNorm(out_channels // CHANNELS_PER_GROUP, out_channels)

    def forward(self, x: torch.Tensor, guidance: torch.Tensor | None = None) -> torch.Tensor:
        """Class maps (B, T, D, h, w) and guidance (B, G, 2h, 2w), if any -> (B, T, out_channels, 2h, 2w)."""
        batch = x.shape[0]
        map_weight, guidance_weight = self.guided_conv.weight.tensor_split([self.up_channels], dim=1)
        x = self.up(channels_last(x.flatten(0, 1)))  # (B * T, up_channels, 2h, 2w)
        x = F.conv2d(x, map_weight, padding=1).unflatten(0, (batch, -1))
        if guidance is not None:
            x = x + F.conv2d(channels_last(guidance), guidance_weight, padding=1)[:, None]
        x = F.relu(self.guided_norm(x.flatten(0, 1)))
        x = F.relu(self.norm(self.conv(x)))
        return x.unflatten(0, (batch, -1))


class GuidedDecoder(nn.Module):
    """Two guided upsamplings and a convolution to one logit per class and position.

    Args:
        in_channels: channels of the aggregated cost volume.
        widths: channels after each upsampling.
        encoder_guidance_channels: for each encoder with guidance (CLIP, then DINO), its channels at 2x and 4x.
        guidance_widths: channels of each encoder's projected guidance, at 2x and 4x.
        class_chunk: classes at a time, to save memory; 0 for all.
        recompute: store only the inputs for the backward pass, and recompute the rest.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        widths: Sequence[int],
        encoder_guidance_channels: Sequence[Sequence[int]],
        guidance_widths: Sequence[int],
        class_chunk: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.class_chunk = class_chunk
        self.recompute = recompute
        if any(width % CHANNELS_PER_GROUP for width in widths):
            raise ConfigError(
                f"MODEL.DECODER.WIDTHS is {list(widths)}; each must be a multiple of {CHANNELS_PER_GROUP}."
            )
        self.guidance_projections = nn.ModuleList()
        self.upsamplings = nn.ModuleList()
        for level, (width, guidance_width) in enumerate(zip(widths, guidance_widths, strict=True)):
            self.guidance_projections.append(
                nn.ModuleList(
                    nn.Conv2d(channels[level], guidance_width, kernel_size=3, padding=1)
                    for channels in encoder_guidance_channels
                )
            )
            self.upsamplings.append(
                GuidedUpsampling(
                    in_channels=in_channels,
                    guidance_channels=guidance_width * len(encoder_guidance_channels),
                    # As in the published widths: room for one encoder's guidance is taken from the map.
                    up_channels=in_channels - guidance_width,
                    out_channels=width,
                )
            )
            in_channels = width
        self.logits = nn.Conv2d(in_channels, 1, kernel_size=3, padding=1)

    @classmethod
    def from_config(cls, cfg: CfgNode, encoders: int) -> dict:
        """Arguments from MODEL.DECODER, for guidance from this number of encoders."""
        return {
            "in_channels": cfg.MODEL.COST_VOLUME.WIDTH,
            "widths": cfg.MODEL.DECODER.WIDTHS,
            "encoder_guidance_channels": [cfg.MODEL.GUIDANCE_WIDTHS] * encoders,
            "guidance_widths": cfg.MODEL.DECODER.GUIDANCE_WIDTHS,
            "class_chunk": cfg.MODEL.AGGREGATOR.CLASS_CHUNK,
            "recompute": cfg.MODEL.ACTIVATION_CHECKPOINTING,
        }

    def project_guidance(self, guidance: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
        """Project the guidance, once per image for all classes.

        Args:
            guidance: for each encoder, its guidance (B, G0, 2h, 2w) and (B, G1, 4h, 4w).

        Returns:
            (B, G, 2h, 2w) and (B, G', 4h, 4w).
        """
        return [
            torch.cat(
                [F.relu(projection(maps[level])) for projection, maps in zip(projections, guidance, strict=True)], 1
            )
            for level, projections in enumerate(self.guidance_projections)
        ]

    def forward(self, x: torch.Tensor, guidance: Sequence[torch.Tensor]) -> torch.Tensor:
        """Decode an aggregated cost volume.

        Args:
            x: (B, T, D, h, w).
            guidance: from :meth:`project_guidance`.

        Returns:
            Logits (B, T, 4h, 4w).
        """
        decode = partial(recomputed, self.recompute, self._decode, guidance=guidance)
        return by_class_chunks(self.class_chunk, decode, x)

    def _decode(self, x: torch.Tensor, guidance: Sequence[torch.Tensor]) -> torch.Tensor:
        """Decode classes (B, T, D, h, w) with projected guidance."""
        for upsampling, maps in zip(self.upsamplings, guidance, strict=True):
            x = upsampling(x, maps)
        return class_logits(self.logits, x)


def class_logits(convolution: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """One logit per class and position: (B, T, D, h, w) -> (B, T, h, w), for a convolution to one channel."""
    return convolution(x.flatten(0, 1)).squeeze(1).unflatten(0, (x.shape[0], -1))
