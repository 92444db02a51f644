"""DINO's image encoder, built by timm: one instance for RGB and its twin for SAR."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import nn

from mm_ovseg.checkpoint.encoder_weights import load_encoder_file, load_encoder_state_dict
from mm_ovseg.errors import CheckpointError, ConfigError
from mm_ovseg.modeling.backbone.image_encoder import IMAGE_ENCODER_REGISTRY, EncoderFeatures, ImageEncoder
from mm_ovseg.modeling.cpu_kernels import fast_attention

__all__ = ["DINOEncoder", "read_timm_weights"]


@IMAGE_ENCODER_REGISTRY.register()
class DINOEncoder(ImageEncoder):
    """A ViT that returns the outputs of selected blocks as maps.

    All outputs are normalised by the model's last LayerNorm.

    Args:
        name: a timm model with ``forward_intermediates``, e.g. ``"vit_base_patch8_224.dino"``.
        arguments: passed to ``timm.create_model``, for custom sizes.
        weights: ``""`` for random weights, a name from ``timm.list_pretrained()``, a local file, or one on the hub
            (``hf://organisation/repository/file``).
        image_size, blocks, pixel_mean, pixel_std: see :class:`ImageEncoder`.

    Raises:
        ConfigError: the model or a block does not exist.
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """

    def __init__(
        self,
        *,
        name: str,
        arguments: Mapping[str, Any],
        weights: str,
        image_size: int,
        blocks: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        model = _create_timm_model(name, image_size, arguments)
        super().__init__(
            image_size=image_size,
            patch_size=model.patch_embed.patch_size[0],
            blocks=blocks,
            out_channels=model.embed_dim,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        depth = len(model.blocks)
        if not all(1 <= block <= depth for block in blocks):
            raise ConfigError(
                f"Blocks {list(blocks)} of {name} were requested, which has {depth}; choose from 1 to {depth}."
            )
        model.blocks[max(blocks) :].requires_grad_(False)  # they are unused
        self.model = model
        if weights in timm.list_pretrained():
            # At its own size, since timm would resize the positional embedding in a different way than the method.
            load_encoder_state_dict(self.model, read_timm_weights(weights, arguments), source=weights)
        elif weights:
            load_encoder_file(self.model, weights)

    @property
    def transformer_blocks(self) -> Sequence[nn.Module]:
        """The blocks of timm's model."""
        return self.model.blocks

    def recompute_activations(self) -> None:
        """Recompute as timm does."""
        self.model.set_grad_checkpointing()

    def forward(self, images: torch.Tensor) -> EncoderFeatures:
        """Encode preprocessed images (B, 3, image_size, image_size)."""
        with fast_attention(images):
            indices = sorted({block - 1 for block in self.blocks})
            maps = self.model.forward_intermediates(
                images, indices=indices, norm=True, stop_early=True, intermediates_only=True
            )
        *guidance, dense = (maps[indices.index(block - 1)] for block in self.blocks)
        return EncoderFeatures(dense, tuple(guidance))


def read_timm_weights(name: str, arguments: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Download the weights of an encoder, at the size that they were trained with.

    Args:
        name: from ``timm.list_pretrained()``.
        arguments: of ``timm.create_model``.

    Raises:
        CheckpointError: they cannot be downloaded.
    """
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, **arguments).state_dict()
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"The weights '{name}' could not be downloaded by timm ({type(error).__name__}); "
            "without network, download the file elsewhere and give its path instead."
        ) from error


def _create_timm_model(name: str, image_size: int, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size, **arguments)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"timm cannot build MODEL.DENSE_ENCODER.NAME '{name}' with ARGUMENTS {dict(arguments)} at {image_size} "
            f"pixels: {error}; see timm.list_models('vit*')."
        ) from error
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "blocks"):
        raise ConfigError(f"MODEL.DENSE_ENCODER.NAME is '{name}', which is not a ViT; see timm.list_models('vit*').")
    return model
