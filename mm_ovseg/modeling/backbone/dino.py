"""DINO's image encoder, built by timm; one instance sees RGB, another, its twin, sees SAR."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import nn

from mm_ovseg.checkpoint.encoder_weights import load_encoder_file, load_encoder_state_dict
from mm_ovseg.errors import CheckpointError, ConfigError
from mm_ovseg.modeling.backbone.image_encoder import IMAGE_ENCODER_REGISTRY, ImageEncoder
from mm_ovseg.modeling.cpu_kernels import fast_attention, use_onednn

__all__ = ["DINOEncoder"]


@IMAGE_ENCODER_REGISTRY.register()
class DINOEncoder(ImageEncoder):
    """A ViT whose chosen block outputs are returned as maps (design §4, "DINO, RGB and SAR").

    Args:
        name: a timm model with ``forward_intermediates``, e.g. ``"vit_base_patch8_224.dino"``.
        arguments: handed to ``timm.create_model``, for sizes of one's own.
        weights: ``""`` for random weights, a name from ``timm.list_pretrained()``, a local file, or one of the hub
            (``hf://organisation/repository/file``).
        image_size: input height and width in pixels.
        blocks: 1-based blocks whose outputs are returned.
        frozen: nothing learns, and the module stays in evaluation mode.
        pixel_mean, pixel_std: three values on the 0..255 scale.

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
        frozen: bool,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        model = _create_timm_model(name, image_size, arguments)
        patch_size = model.patch_embed.patch_size[0]
        super().__init__(image_size=image_size, patch_size=patch_size, pixel_mean=pixel_mean, pixel_std=pixel_std)
        depth = len(model.blocks)
        if not all(1 <= block <= depth for block in blocks):
            raise ConfigError(
                f"Blocks {list(blocks)} were asked of {name}, which has {depth}: choose from 1 to {depth}."
            )
        use_onednn(model)
        self.model = model
        self.blocks = tuple(blocks)
        self.out_channels = model.embed_dim
        self.frozen = frozen
        if weights in timm.list_pretrained():
            self._load_from_hub(weights, arguments)
        elif weights:
            load_encoder_file(self.model, weights)
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def transformer_blocks(self) -> Sequence[nn.Module]:
        """Those of timm's model."""
        return self.model.blocks

    def recompute_activations(self) -> None:
        """As timm does it."""
        self.model.set_grad_checkpointing()

    def train(self, mode: bool = True) -> "DINOEncoder":
        """Switch the mode; a frozen encoder stays in evaluation mode, so that nothing in it is random."""
        return super().train(mode and not self.frozen)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Encode preprocessed images.

        Args:
            images: (B, 3, image_size, image_size), from :meth:`preprocess`.

        Returns:
            One (B, out_channels, h, w) a block, normalised by the model's last LayerNorm, in the order of ``blocks``.
        """
        with fast_attention(images.device), torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            indices = sorted({block - 1 for block in self.blocks})
            maps = self.model.forward_intermediates(
                images, indices=indices, norm=True, stop_early=True, intermediates_only=True
            )
        by_block = {index + 1: block_map for index, block_map in zip(indices, maps, strict=True)}
        return [by_block[block] for block in self.blocks]

    def _load_from_hub(self, name: str, arguments: Mapping[str, Any]) -> None:
        try:
            # At its own size: timm would resize the positional embedding in another way than the method does.
            source = timm.create_model(name, pretrained=True, num_classes=0, **arguments)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"The weights '{name}' could not be fetched by timm ({type(error).__name__}); "
                "without network, fetch the file elsewhere and give its path instead."
            ) from error
        load_encoder_state_dict(self.model, source.state_dict(), source=name)


def _create_timm_model(name: str, image_size: int, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size, **arguments)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"timm cannot build MODEL.DINO.NAME '{name}' with ARGUMENTS {dict(arguments)} at {image_size} pixels: "
            f"{error}; see timm.list_models('vit*')."
        ) from error
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "blocks"):
        raise ConfigError(f"MODEL.DINO.NAME is '{name}', which is no ViT; see timm.list_models('vit*').")
    return model
