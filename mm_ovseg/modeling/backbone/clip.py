"""CLIP's image encoder with dense features, and its text tower, both built by open_clip."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transformer import VisionTransformer
from torch import nn

from mm_ovseg.checkpoint.encoder_weights import load_encoder_state_dict, read_encoder_file, read_student_file
from mm_ovseg.choices import check_choice
from mm_ovseg.errors import CheckpointError, ConfigError, brief_reason
from mm_ovseg.modeling.backbone.image_encoder import IMAGE_ENCODER_REGISTRY, EncoderFeatures, ImageEncoder
from mm_ovseg.modeling.backbone.tokenizer import build_tokenizer
from mm_ovseg.modeling.memory import recomputed

__all__ = [
    "CLIPImageEncoder",
    "SelfAttention",
    "build_clip",
    "build_whole_clip",
    "embed_patches",
    "resize_position",
    "set_clip_trainable",
]

# Small models for tests and the quickstart, in open_clip's config format.
open_clip.add_model_config(Path(__file__).parent / "clip_configs")


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate parameters for query, key and value projections.

    ``nn.MultiheadAttention``, which open_clip uses, packs the three into one parameter, so the key weights cannot be
    frozen while the others are trained (masking their gradient is not enough: weight decay still changes them).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    @classmethod
    def from_packed(cls, packed: nn.MultiheadAttention) -> "SelfAttention":
        """The same function as ``packed``, with its weights."""
        attention = cls(packed.embed_dim, packed.num_heads)
        projections = (attention.query, attention.key, attention.value)
        with torch.no_grad():
            for projection, weight, bias in zip(
                projections, packed.in_proj_weight.chunk(3), packed.in_proj_bias.chunk(3), strict=True
            ):
                projection.weight.copy_(weight)
                projection.bias.copy_(bias)
            attention.output.weight.copy_(packed.out_proj.weight)
            attention.output.bias.copy_(packed.out_proj.bias)
        return attention

    def forward(
        self,
        x: torch.Tensor,
        _key: torch.Tensor | None = None,
        _value: torch.Tensor | None = None,
        *,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attend among the tokens of ``x`` (B, N, D); the signature is the one that open_clip's blocks call."""
        return self._attend(x, (self.query, self.key, self.value), attn_mask), None

    def value_attention(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The output for ``x`` (B, N, D) if the values are also the queries and the keys."""
        return self._attend(x, (self.value, self.value, self.value), attn_mask)

    def _attend(
        self, x: torch.Tensor, projections: Sequence[nn.Module], attn_mask: torch.Tensor | None
    ) -> torch.Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
            for projection in projections
        )
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        return self.output(x.transpose(1, 2).flatten(2))  # (B, N, D)

    def value_path(self, x: torch.Tensor) -> torch.Tensor:
        """The output for ``x`` (B, N, D) if every token attends only to itself."""
        x = self.output(self.value(x))
        if self.query.weight.requires_grad:
            # Queries are unused here. A zero gradient instead of none keeps all trainable parameters in the graph, as
            # DistributedDataParallel requires; the released code has the same zero.
            x = x + 0.0 * self.query.weight.sum()
        return x


@IMAGE_ENCODER_REGISTRY.register()
class CLIPImageEncoder(ImageEncoder):
    """CLIP's ViT without pooling: a text-aligned feature for every patch.

    Args:
        name, arguments, weights: see :func:`build_whole_clip`; without text, the weights may be a stage-1 checkpoint
            with a CLIP student.
        image_size: input height and width in pixels; the positional embedding is resized to fit.
        blocks: see :class:`ImageEncoder`; the dense feature is that of CLIP's last block, which -1 also names.
        pixel_mean, pixel_std: three values on the 0..255 scale.
        with_text: keep the text tower and the tokenizer for :meth:`take_text_encoder`.

    Raises:
        ConfigError, CheckpointError: see :func:`build_whole_clip`; or CLIP does not have these blocks.
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
        with_text: bool = False,
    ) -> None:
        student = read_student_file(weights) if not with_text and _is_file(weights) else None
        visual, *text_encoder = build_clip(name, weights if student is None else "", arguments)
        *guidance, last = blocks
        depth = visual.transformer.layers
        if last not in (-1, depth):
            raise ConfigError(
                f"Blocks {list(blocks)} of CLIP were requested; they must end with {name}'s last block, {depth}, whose "
                "output is the dense feature."
            )
        if not all(1 <= block < depth for block in guidance):
            raise ConfigError(f"Guidance from blocks {guidance} of {name} was requested; choose from 1 to {depth - 1}.")
        super().__init__(
            image_size=image_size,
            patch_size=visual.patch_size[0],
            blocks=(*guidance, depth),
            out_channels=visual.output_dim,
            guidance_channels=visual.transformer.width,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        if student is not None:
            load_encoder_state_dict(visual, student, source=weights)
        attention = visual.transformer.resblocks[-1].attn
        for unused in (attention.query, attention.key):  # the dense feature uses only the value path
            unused.requires_grad_(False)
        self.visual = visual
        self.recompute = False
        self._text_encoder = text_encoder if with_text else None

    def take_text_encoder(self) -> tuple[nn.Module, Callable]:
        """Hand over the text tower and the tokenizer, once: they are not part of this module."""
        text_encoder, self._text_encoder = self._text_encoder, None
        return tuple(text_encoder)

    @property
    def transformer_blocks(self) -> Sequence[nn.Module]:
        """All blocks but the last, which is not called as a whole."""
        return self.visual.transformer.resblocks[:-1]

    def recompute_activations(self) -> None:
        """Recompute each block as a whole."""
        self.recompute = True

    def forward(self, images: torch.Tensor) -> EncoderFeatures:
        """Encode preprocessed images (B, 3, image_size, image_size)."""
        visual, grid = self.visual, (self.grid_size, self.grid_size)
        x = embed_patches(visual, images, resize_position(visual.positional_embedding, grid))  # (B, 1 + h * w, width)

        outputs = {}
        *blocks, last_block = visual.transformer.resblocks
        for index, block in enumerate(blocks, start=1):
            x = recomputed(self.recompute, block, x)
            if index in self.blocks:
                outputs[index] = self._to_grid(x[:, 1:])

        # Only the value path of the last block is used, and the CLS token replaces the residual.
        x = last_block.attn.value_path(last_block.ln_1(x[:, 1:])) + x[:, :1]
        x = x + last_block.mlp(last_block.ln_2(x))
        dense = visual.ln_post(x) @ visual.proj  # (B, h * w, out_channels)
        return EncoderFeatures(self._to_grid(dense), tuple(outputs[block] for block in self.blocks[:-1]))

    def _to_grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """Reshape (B, h * w, D) to (B, D, h, w)."""
        return tokens.transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))


def build_clip(
    name: str, pretrained: str, arguments: Mapping[str, Any] = MappingProxyType({})
) -> tuple[VisionTransformer, nn.Module, Callable]:
    """The image tower, the text tower (token ids (N, L) -> (N, C)) and the tokenizer of :func:`build_whole_clip`."""
    model = build_whole_clip(name, pretrained, arguments)
    return model.visual, model.text, build_tokenizer(name)


def build_whole_clip(
    name: str, pretrained: str, arguments: Mapping[str, Any] = MappingProxyType({})
) -> open_clip.CustomTextCLIP:
    """Build open_clip's model ``name`` and split the packed projections of its attention.

    Args:
        name: an architecture that open_clip knows, e.g. ``"ViT-B-16-quickgelu"``.
        pretrained: ``""`` for random weights, a tag that open_clip knows (``"openai"``), a local file, or one on the
            hub (``hf://organisation/repository/file``).
        arguments: passed to ``open_clip.create_model``.

    Raises:
        ConfigError: the architecture is unknown or not a plain ViT.
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """
    if name not in open_clip.list_models():
        raise ConfigError(f"MODEL.CLIP.NAME is '{name}', which open_clip does not know; see open_clip.list_models().")
    known_tags = open_clip.list_pretrained_tags_by_model(name)
    is_file = _is_file(pretrained)
    if pretrained and not is_file and pretrained not in known_tags:
        raise CheckpointError(
            f"CLIP's weights are given as '{pretrained}', which is neither a file nor one of open_clip's tags for "
            f'{name} ({", ".join(known_tags) or "none"}); give one of these, or "" for random weights.'
        )
    root_logger = logging.getLogger()
    root_logger.addFilter(_is_not_about_random_weights)
    try:
        # force_custom_text keeps the text tower in a separate module.
        tag = None if is_file else pretrained or None
        model = open_clip.create_model(name, pretrained=tag, force_custom_text=True, **arguments)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"'{pretrained}' could not be loaded into CLIP {name} ({brief_reason(error)}); without network, "
            "download the file elsewhere and give its path instead."
        ) from error
    finally:
        root_logger.removeFilter(_is_not_about_random_weights)
    if not isinstance(model.visual, VisionTransformer):
        raise ConfigError(f"MODEL.CLIP.NAME is '{name}', whose image encoder is not a plain ViT; choose another.")
    if is_file:
        state_dict = convert_to_custom_text_state_dict(read_encoder_file(pretrained))
        load_encoder_state_dict(model, state_dict, source=pretrained)
    for module in list(model.modules()):
        if isinstance(getattr(module, "attn", None), nn.MultiheadAttention):
            module.attn = SelfAttention.from_packed(module.attn)
    return model


def embed_patches(visual: VisionTransformer, images: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """The tokens that enter CLIP's first block.

    Args:
        visual: CLIP's image tower.
        images: preprocessed, (B, 3, H, W).
        position: a positional embedding (1 + h * w, width), see :func:`resize_position`.

    Returns:
        (B, 1 + h * w, width), CLS first, then the patches row by row.
    """
    x = visual.conv1(images).flatten(2).transpose(1, 2)  # (B, h * w, width)
    cls_token = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
    x = torch.cat([cls_token, x], dim=1)  # (B, 1 + h * w, width)
    return visual.ln_pre(x + position.to(x.dtype))


def resize_position(
    position: torch.Tensor, grid: tuple[int, int], scale: tuple[float, float] | None = None
) -> torch.Tensor:
    """Resize CLIP's positional embedding bicubically, without antialiasing, which open_clip's own resize has.

    Args:
        position: (1 + n * n, width), CLS first.
        grid: height h and width w in tokens; an embedding of this grid is returned as it is.
        scale: sample with these factors instead of h / n and w / n.

    Returns:
        (1 + h * w, width).
    """
    stored = int((position.shape[0] - 1) ** 0.5)
    if grid == (stored, stored):
        return position
    maps = position[1:].T.unflatten(1, (stored, stored))[None]  # (1, width, n, n)
    size = {"size": grid} if scale is None else {"scale_factor": scale}
    maps = F.interpolate(maps, **size, mode="bicubic", align_corners=False)
    return torch.cat([position[:1], maps[0].flatten(1).T])


def set_clip_trainable(tower: nn.Module, finetune: str) -> None:
    """Freeze a CLIP tower except for the weights that ``finetune`` names: ``"query_value"`` or ``"none"``.

    ``"query_value"`` trains only the query and value projection weights of every attention, not their biases (paper,
    stage 2).
    """
    check_choice("MODEL.CLIP.FINETUNE", finetune, ("query_value", "none"))
    tower.requires_grad_(False)
    if finetune == "query_value":
        attentions = [module for module in tower.modules() if isinstance(module, SelfAttention)]
        if not attentions:
            raise ConfigError(
                f"MODEL.CLIP.FINETUNE is 'query_value', which {type(tower).__name__} does not have; set 'none'."
            )
        for attention in attentions:
            attention.query.weight.requires_grad_(True)
            attention.value.weight.requires_grad_(True)


def _is_file(weights: str) -> bool:
    return weights.startswith("hf://") or Path(weights).is_file()


def _is_not_about_random_weights(record: logging.LogRecord) -> bool:
    # open_clip warns about random weights, which a checkpoint may be about to replace.
    return "No pretrained weights loaded" not in record.getMessage()
