"""SAM's image encoder without its neck, built by timm."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer_sam import VisionTransformerSAM, checkpoint_filter_fn
from torch import nn
from torch.overrides import TorchFunctionMode

from mm_ovseg.checkpoint.encoder_weights import load_encoder_state_dict, read_encoder_file
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone.dino import read_timm_weights
from mm_ovseg.modeling.memory import recomputed

__all__ = ["SAMEncoder"]

SCALES = (4.0, 2.0, 1.0, 0.5)  # of the maps, relative to SAM's grid


class SAMEncoder(nn.Module):
    """The maps of four blocks at four scales, as a backbone's ``res2`` to ``res5`` (EBSeg; baselines.md, 2.3).

    Frozen but for its positional embedding, which timm would resize with antialiasing, unlike the published model.

    Args:
        name: a timm model of the class ``VisionTransformerSAM``, e.g. ``"samvit_base_patch16"``.
        arguments: passed to ``timm.create_model``, for custom sizes.
        weights: ``""`` for random weights, a name from ``timm.list_pretrained()``, or a file, local or on the hub, of
            timm or as published (``sam_vit_b_01ec64.pth``).
        blocks: four 1-based blocks.

    Raises:
        ConfigError: the model or a block does not exist.
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """

    def __init__(self, *, name: str, arguments: Mapping[str, Any], weights: str, blocks: Sequence[int]) -> None:
        super().__init__()
        model = _create(name, arguments)
        depth = len(model.blocks)
        if len(blocks) != len(SCALES) or not all(1 <= block <= depth for block in blocks):
            raise ConfigError(
                f"MODEL.EBSEG.SAM.BLOCKS is {list(blocks)}; give four blocks from 1 to {depth}, which {name} has."
            )
        if weights:
            is_of_timm = weights in timm.list_pretrained()
            state_dict = read_timm_weights(weights, arguments) if is_of_timm else read_encoder_file(weights)
            load_encoder_state_dict(model, checkpoint_filter_fn(state_dict, model), source=weights)
        model.prune_intermediate_layers([block - 1 for block in sorted(set(blocks))], prune_norm=True)
        model.requires_grad_(False)
        model.pos_embed.requires_grad_(True)
        self.model = model
        self.blocks = tuple(blocks)
        self.recompute = False

    @property
    def width(self) -> int:
        """Channels of the maps."""
        return self.model.embed_dim

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Encode normalised images (B, 3, H, W), with sides that are multiples of 32 pixels.

        Returns:
            ``res2`` to ``res5``, (B, width, H / 4, W / 4), ..., (B, width, H / 32, W / 32).
        """
        x = self.model.patch_embed(images)  # (B, h, w, width)
        x = x + _resize(self.model.pos_embed, x.shape[1:3])
        outputs = {}
        for index, block in enumerate(self.model.blocks, start=1):
            x = recomputed(self.recompute, _run, block, x)
            if index in self.blocks:
                outputs[index] = x.permute(0, 3, 1, 2)  # (B, width, h, w)
        return [
            F.interpolate(outputs[block], scale_factor=scale, mode="bilinear", align_corners=False)
            for block, scale in zip(self.blocks, SCALES, strict=True)
        ]


class _FourAxes(TorchFunctionMode):
    """A context for timm's SAM, whose attention has three axes, (B * heads, N, D): fused kernels need four."""

    def __torch_function__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = (tensor[None] for tensor in args)  # (1, B * heads, N, D)
        mask = kwargs.pop("attn_mask")  # (B * heads, N, N)
        return function(query, key, value, attn_mask=None if mask is None else mask[None], **kwargs)[0]


def _run(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with _FourAxes():
        return block(x)


def _create(name: str, arguments: Mapping[str, Any]) -> VisionTransformerSAM:
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"timm cannot build MODEL.EBSEG.SAM.NAME '{name}' with ARGUMENTS {dict(arguments)}: {error}; see "
            "timm.list_models('samvit*')."
        ) from error
    if not isinstance(model, VisionTransformerSAM) or model.pos_embed is None:
        raise ConfigError(
            f"MODEL.EBSEG.SAM.NAME is '{name}', which is not SAM's image encoder; choose samvit_base_patch16, "
            "samvit_large_patch16 or samvit_huge_patch16."
        )
    return model


def _resize(position: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Resize a positional embedding (1, n, n, width) bicubically to (1, h, w, width)."""
    if position.shape[1:3] == grid:
        return position
    maps = F.interpolate(position.permute(0, 3, 1, 2), tuple(grid), mode="bicubic", align_corners=False)
    return maps.permute(0, 2, 3, 1)
