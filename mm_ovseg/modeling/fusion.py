"""Cost volumes (similarities of dense features with the text), embedded class by class and fused."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from fvcore.common.registry import Registry
from torch import nn

from mm_ovseg.choices import check_registered
from mm_ovseg.modeling.memory import by_class_chunks

__all__ = ["FUSION_REGISTRY", "CostVolumeEmbedding", "build_fusion", "cost_volume"]

FUSION_REGISTRY = Registry("FUSION")
FUSION_REGISTRY.__doc__ = """
Registry of modules built from ``(cfg, input_shape)`` that embed cost volumes like :class:`CostVolumeEmbedding`;
MODEL.COST_VOLUME.FUSION names one.
"""


def cost_volume(dense: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of every patch with every class and template.

    Args:
        dense: (B, C, h, w).
        text: L2-normalised, (P, T, C), or (B, P, T, C) if each image has its own.

    Returns:
        (B, P, T, h, w), in -1..1.
    """
    dense = F.normalize(dense, dim=1)
    equation = "bchw,ptc->bpthw" if text.dim() == 3 else "bchw,bptc->bpthw"
    return torch.einsum(equation, dense, text.to(dense.dtype))


@FUSION_REGISTRY.register()
class CostVolumeEmbedding(nn.Module):
    """Embed CLIP's and DINO's cost volumes class by class and fuse them.

    Without a DINO encoder the embedding is a single convolution of CLIP's cost volume, as in CAT-Seg.

    Args:
        templates: P, the cost volume's channels.
        width: channels of the embedding.
        kernel_size: kernel size of all convolutions, in dense tokens.
        with_dino: whether there is a DINO cost volume to fuse.
        class_chunk: classes at a time, to save memory; 0 for all.
    """

    @configurable
    def __init__(self, *, templates: int, width: int, kernel_size: int, with_dino: bool, class_chunk: int = 0) -> None:
        super().__init__()
        self.class_chunk = class_chunk
        padding = kernel_size // 2
        self.clip = nn.Conv2d(templates, width, kernel_size, padding=padding)
        self.dino = nn.Conv2d(templates, width, kernel_size, padding=padding) if with_dino else None
        self.fuse = nn.Conv2d(2 * width, width, kernel_size, padding=padding) if with_dino else None

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        """Arguments from MODEL.COST_VOLUME; ``input_shape`` is that of the head."""
        return {
            "templates": len(cfg.MODEL.TEXT.TEMPLATES),
            "width": cfg.MODEL.COST_VOLUME.WIDTH,
            "kernel_size": cfg.MODEL.COST_VOLUME.KERNEL_SIZE,
            "with_dino": "dino" in input_shape,
            "class_chunk": cfg.MODEL.AGGREGATOR.CLASS_CHUNK,
        }

    def forward(self, clip_cost: torch.Tensor, dino_cost: torch.Tensor | None) -> torch.Tensor:
        """Embed cost volumes (B, P, T, h, w); returns (B, T, width, h, w)."""
        costs = (None if cost is None else cost.transpose(1, 2) for cost in (clip_cost, dino_cost))  # (B, T, P, h, w)
        return by_class_chunks(self.class_chunk, self._embed, *costs)

    def _embed(self, clip_cost: torch.Tensor, dino_cost: torch.Tensor | None) -> torch.Tensor:
        batch = clip_cost.shape[0]
        clip_embedding = self.clip(clip_cost.flatten(0, 1))  # (B * T, width, h, w)
        if self.dino is None or dino_cost is None:
            return clip_embedding.unflatten(0, (batch, -1))
        clip_embedding = clip_embedding.sigmoid()
        dino_embedding = self.dino(dino_cost.flatten(0, 1)).sigmoid()
        fused = self.fuse(torch.cat([clip_embedding, dino_embedding], dim=1)).sigmoid() + clip_embedding
        return fused.unflatten(0, (batch, -1))


def build_fusion(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """Build the fusion that MODEL.COST_VOLUME.FUSION names.

    Args:
        cfg: the config.
        input_shape: that of :class:`~mm_ovseg.modeling.head.MMOVSegHead`.

    Raises:
        ConfigError: the name is not registered.
    """
    name = cfg.MODEL.COST_VOLUME.FUSION
    check_registered("MODEL.COST_VOLUME.FUSION", name, FUSION_REGISTRY)
    return FUSION_REGISTRY.get(name)(cfg, input_shape)
