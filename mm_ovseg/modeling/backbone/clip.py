"""CLIP's image encoder read densely, and its text tower, both built by open_clip."""

import logging
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transformer import VisionTransformer
from torch import nn

from mm_ovseg.checkpoint.encoder_weights import load_encoder_state_dict, read_encoder_file
from mm_ovseg.choices import check_choice
from mm_ovseg.errors import CheckpointError, ConfigError, brief_reason
from mm_ovseg.modeling.backbone.image_encoder import ImageEncoder
from mm_ovseg.modeling.cpu_kernels import use_onednn
from mm_ovseg.modeling.memory import recomputed

__all__ = ["CLIPImageEncoder", "SelfAttention", "build_clip", "set_clip_trainable"]

# Small models for tests and the quickstart, described as open_clip describes its own.
open_clip.add_model_config(Path(__file__).parent / "clip_configs")


class SelfAttention(nn.Module):
    """Multi-head self-attention whose query, key and value projections are parameters of their own.

    ``nn.MultiheadAttention``, which open_clip uses, packs the three into one parameter; then the key weights cannot be
    frozen while the others learn (masking their gradient is not enough: weight decay still moves them).
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
        """The same function as ``packed``, with its weights taken over."""
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
        """Attend among the tokens of ``x`` (B, N, D); the signature is what open_clip's blocks call."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
            for projection in (self.query, self.key, self.value)
        )
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        return self.output(x.transpose(1, 2).flatten(2)), None  # (B, N, D)

    def value_path(self, x: torch.Tensor) -> torch.Tensor:
        """What ``x`` (B, N, D) becomes if every token attends to itself alone."""
        x = self.output(self.value(x))
        if self.query.weight.requires_grad:
            # Queries play no part here. A zero gradient, where there would be none, keeps every trainable parameter
            # in the graph, as DistributedDataParallel requires; the released code has the same zero.
            x = x + 0.0 * self.query.weight.sum()
        return x


class CLIPImageEncoder(ImageEncoder):
    """CLIP's ViT without the pooling: a text-aligned feature for every patch (design §4, "CLIP, dense").

    Args:
        visual: open_clip's image tower, its attention already split by :func:`build_clip`.
        image_size: input height and width in pixels; the positional embedding is resized to fit.
        guidance_blocks: 1-based blocks whose outputs are returned beside the dense feature.
        pixel_mean, pixel_std: three values on the 0..255 scale.
        recompute: keep only what enters a block for the backward pass, and compute the rest again.
    """

    def __init__(
        self,
        *,
        visual: VisionTransformer,
        image_size: int,
        guidance_blocks: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        recompute: bool = False,
    ) -> None:
        patch_size = visual.patch_size[0]
        super().__init__(image_size=image_size, patch_size=patch_size, pixel_mean=pixel_mean, pixel_std=pixel_std)
        layers = visual.transformer.layers
        if not all(1 <= block < layers for block in guidance_blocks):
            raise ConfigError(
                f"MODEL.CLIP.GUIDANCE_BLOCKS is {list(guidance_blocks)}, but this CLIP has {layers} blocks: "
                f"choose from 1 to {layers - 1}."
            )
        self.visual = visual
        self.recompute = recompute
        self.guidance_blocks = tuple(guidance_blocks)
        self.out_channels = visual.output_dim
        self.width = visual.transformer.width

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Encode preprocessed images.

        Args:
            images: (B, 3, image_size, image_size), from :meth:`preprocess`.

        Returns:
            The dense feature (B, out_channels, h, w), and the outputs of the guidance blocks (B, width, h, w), in the
            order of ``guidance_blocks``.
        """
        visual = self.visual
        x = visual.conv1(images).flatten(2).transpose(1, 2)  # (B, h * w, width)
        cls_token = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([cls_token, x], dim=1)  # (B, 1 + h * w, width)
        x = visual.ln_pre(x + self._positional_embedding().to(x.dtype))

        guidance = {}
        *blocks, last_block = visual.transformer.resblocks
        for index, block in enumerate(blocks, start=1):
            x = recomputed(self.recompute, block, x)
            if index in self.guidance_blocks:
                guidance[index] = self._to_grid(x[:, 1:])

        # The last block keeps its value path only, and the CLS token takes the residual's place.
        x = last_block.attn.value_path(last_block.ln_1(x[:, 1:])) + x[:, :1]
        x = x + last_block.mlp(last_block.ln_2(x))
        dense = visual.ln_post(x) @ visual.proj  # (B, h * w, out_channels)
        return self._to_grid(dense), [guidance[block] for block in self.guidance_blocks]

    def _positional_embedding(self) -> torch.Tensor:
        """The positional embedding (1 + h * w, width), resized to this encoder's grid."""
        embedding = self.visual.positional_embedding
        stored = int((embedding.shape[0] - 1) ** 0.5)
        size = self.grid_size
        if stored == size:
            return embedding
        grid = embedding[1:].T.unflatten(1, (stored, stored))[None]  # (1, width, stored, stored)
        # open_clip's own resize antialiases, which the released weights were not trained with.
        grid = F.interpolate(grid, (size, size), mode="bicubic", align_corners=False)
        return torch.cat([embedding[:1], grid[0].flatten(1).T])

    def _to_grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, h * w, D) -> (B, D, h, w)."""
        return tokens.transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))


def build_clip(name: str, pretrained: str) -> tuple[VisionTransformer, nn.Module, object]:
    """Build open_clip's model ``name`` and split the packed projections of its attention.

    Args:
        name: an architecture that open_clip knows, e.g. ``"ViT-B-16-quickgelu"``.
        pretrained: ``""`` for random weights, a tag that open_clip knows (``"openai"``), a local file, or one of the
            hub (``hf://organisation/repository/file``).

    Returns:
        The image tower, the text tower (token ids (N, L) -> (N, C)) and the tokenizer.

    Raises:
        ConfigError: the architecture is unknown or not a plain ViT.
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """
    if name not in open_clip.list_models():
        raise ConfigError(f"MODEL.CLIP.NAME is '{name}', which open_clip does not know; see open_clip.list_models().")
    known_tags = open_clip.list_pretrained_tags_by_model(name)
    is_file = pretrained.startswith("hf://") or Path(pretrained).is_file()
    if pretrained and not is_file and pretrained not in known_tags:
        raise CheckpointError(
            f"CLIP's weights are given as '{pretrained}', which is neither a file nor one of open_clip's tags for "
            f'{name} ({", ".join(known_tags) or "none"}); give one of these, or "" for random weights.'
        )
    root_logger = logging.getLogger()
    root_logger.addFilter(_is_not_about_random_weights)
    try:
        # force_custom_text keeps the text tower in a module of its own.
        model = open_clip.create_model(name, pretrained=None if is_file else pretrained or None, force_custom_text=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"'{pretrained}' could not be loaded into CLIP {name} ({brief_reason(error)}); without network, "
            "fetch the file elsewhere and give its path instead."
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
    use_onednn(model)
    return model.visual, model.text, open_clip.get_tokenizer(name)


def set_clip_trainable(tower: nn.Module, finetune: str) -> None:
    """Freeze a CLIP tower but for what ``finetune`` names: ``"query_value"`` or ``"none"``.

    ``"query_value"`` leaves the query and value projection weights of every attention to learn, neither their biases
    nor anything else (paper, stage 2).
    """
    check_choice("MODEL.CLIP.FINETUNE", finetune, ("query_value", "none"))
    tower.requires_grad_(False)
    if finetune == "query_value":
        for module in tower.modules():
            if isinstance(module, SelfAttention):
                module.query.weight.requires_grad_(True)
                module.value.weight.requires_grad_(True)


def _is_not_about_random_weights(record: logging.LogRecord) -> bool:
    # open_clip warns of random weights, which a checkpoint may replace in a moment.
    return "No pretrained weights loaded" not in record.getMessage()
