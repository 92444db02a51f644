"""Aggregation of the cost volume: over space for each class, then over classes at each position.

Two identities reduce the work without changing the result:

* a projection of concatenated inputs is a sum, ``W [x; g] = W_x x + W_g g``, and the guidance ``g`` is the same for
  all classes (spatial attention) or all positions (class attention), so its part is computed once;
* all padding tokens of the class attention are equal, so their keys and values are one term times their number.
"""

from functools import partial

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import nn

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.memory import by_class_chunks, recomputed
from mm_ovseg.modeling.precision import at_least_float32

__all__ = ["CostVolumeAggregator"]

LINEAR_ATTENTION_EPSILON = 1e-6
SHIFTED_WINDOW_MASK = -100.0  # added to attention logits between regions that only the shift made neighbours


class GuidedProjection(nn.Linear):
    """A linear layer of [x; guidance] with a separate projection for each."""

    def __init__(self, width: int, guidance_width: int) -> None:
        super().__init__(width + guidance_width, width)
        self.width = width

    def project_guidance(self, guidance: torch.Tensor) -> torch.Tensor:
        """The guidance's part, including the bias: (..., guidance_width) -> (..., width)."""
        return F.linear(guidance, self.weight[:, self.width :], self.bias)

    def project_input(self, x: torch.Tensor) -> torch.Tensor:
        """The input's part: (..., width) -> (..., width)."""
        return F.linear(x, self.weight[:, : self.width])


class WindowAttentionBlock(nn.Module):
    """Attention within square windows of one class's map, shifted by ``shift`` tokens, then an MLP.

    The appearance guidance is concatenated to the inputs of queries and keys.
    """

    attention_mask: torch.Tensor | None

    def __init__(
        self, *, width: int, guidance_width: int, heads: int, grid_size: int, window_size: int, shift: int
    ) -> None:
        super().__init__()
        self.heads = heads
        self.window_size = window_size
        self.shift = shift
        self.attention_norm = nn.LayerNorm(width)
        self.query = GuidedProjection(width, guidance_width)
        self.key = GuidedProjection(width, guidance_width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        mask = None
        if shift:  # the same for all heads: (1, windows * heads, N, N); PyTorch has no fused kernel for three axes
            mask = shifted_window_mask(grid_size, window_size, shift).repeat_interleave(heads, dim=0)[None]
        self.register_buffer("attention_mask", mask, persistent=False)

    def forward(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """Aggregate (B, T, h, w, D) with normalised guidance (B, h, w, G), shared by all T classes."""
        height, width = x.shape[2:4]
        normed = self.attention_norm(x)
        query = self.query.project_input(normed) + self.query.project_guidance(guidance)[:, None]
        key = self.key.project_input(normed) + self.key.project_guidance(guidance)[:, None]
        value = self.value(normed)
        query, key, value = (self._to_windows(tensor) for tensor in (query, key, value))
        mask = self.attention_mask.to(query.dtype) if self.attention_mask is not None else None
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.output(self._from_windows(attended, height, width)).view_as(x)
        return x + self.mlp(self.mlp_norm(x))

    def _to_windows(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, h, w, D) -> (B * T, windows * heads, N, D / heads), shifted; four axes, as fused kernels expect."""
        size = self.window_size
        x = x.flatten(0, 1)
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))  # (B * T, rows, size, columns, size, D)
        x = x.unflatten(-1, (self.heads, -1))  # (B * T, rows, size, columns, size, heads, d)
        return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(1, 3)

    def _from_windows(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(B * T, windows * heads, N, d) -> (B * T, h, w, D), shifted back."""
        size = self.window_size
        x = x.unflatten(2, (size, size)).unflatten(1, (height // size, width // size, self.heads))
        x = x.permute(0, 1, 4, 2, 5, 3, 6)  # (B * T, rows, size, columns, size, heads, d)
        x = x.flatten(5, 6).flatten(3, 4).flatten(1, 2)
        return x.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else x


def shifted_window_mask(grid_size: int, window_size: int, shift: int) -> torch.Tensor:
    """Attention bias (windows, N, N) for windows shifted cyclically: 0 within a region, else -100.

    After the cyclic shift the last window of a row has tokens from both ends of the map, which must not mix.
    """
    position = torch.arange(grid_size)
    # Along one axis: 0 for other windows, 1 for the last window's own tokens, 2 for tokens wrapped around.
    region = (position >= grid_size - window_size).long() + (position >= grid_size - shift).long()
    region = region[:, None] * 3 + region[None, :]
    windows = region.unflatten(1, (-1, window_size)).unflatten(0, (-1, window_size))
    windows = windows.transpose(1, 2).reshape(-1, window_size * window_size)
    return (windows[:, :, None] != windows[:, None, :]) * SHIFTED_WINDOW_MASK


class SpatialAggregation(nn.Module):
    """Two window attention blocks, the second shifted by half a window, with a shared norm of the guidance."""

    def __init__(self, *, width: int, guidance_width: int, heads: int, grid_size: int, window_size: int) -> None:
        super().__init__()
        self.guidance_norm = nn.LayerNorm(guidance_width)
        # A single window needs no shift: it already covers the whole map.
        shift = window_size // 2 if window_size < grid_size else 0
        self.blocks = nn.ModuleList(
            WindowAttentionBlock(
                width=width,
                guidance_width=guidance_width,
                heads=heads,
                grid_size=grid_size,
                window_size=window_size,
                shift=block_shift,
            )
            for block_shift in (0, shift)
        )

    def forward(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """Aggregate (B, T, D, h, w) with appearance guidance (B, G, h, w)."""
        guidance = self.guidance_norm(guidance.permute(0, 2, 3, 1))  # (B, h, w, G)
        x = x.permute(0, 1, 3, 4, 2)  # (B, T, h, w, D)
        for block in self.blocks:
            x = block(x, guidance)
        return x.permute(0, 1, 4, 2, 3)


class ClassAggregation(nn.Module):
    """Linear attention among the classes at each position of the pooled map, then an MLP.

    The published model pads the T classes to ``padded_classes`` tokens with a learned token and guidance. The padding
    tokens are equal and their outputs are discarded, so they enter as one term of the sums. A larger vocabulary has no
    padding. The text guidance is concatenated to the inputs of queries and keys.
    """

    def __init__(self, *, width: int, guidance_width: int, heads: int, pooling: int, padded_classes: int) -> None:
        super().__init__()
        self.heads = heads
        self.pooling = pooling
        self.padded_classes = padded_classes
        self.padding_token = nn.Parameter(torch.zeros(width))
        self.padding_guidance = nn.Parameter(torch.zeros(guidance_width))
        self.attention_norm = nn.LayerNorm(width)
        self.query = GuidedProjection(width, guidance_width)
        self.key = GuidedProjection(width, guidance_width)
        self.value = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """Aggregate (B, T, D, h, w) with text guidance (B, T, G)."""
        batch, classes, _, height, width = x.shape
        pooled = F.avg_pool2d(x.flatten(0, 1), self.pooling)  # (B * T, D, h', w')
        size = pooled.shape[-2:]
        pooled = pooled.unflatten(0, (batch, classes)).flatten(3).permute(0, 3, 1, 2)  # (B, h' * w', T, D)
        pooled = pooled + self._attend(self.attention_norm(pooled), guidance[:, None])
        pooled = pooled + self.mlp(self.mlp_norm(pooled))
        pooled = pooled.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, size)  # (B * T, D, h', w')
        enlarged = F.interpolate(pooled, (height, width), mode="bilinear", align_corners=True)
        return x + enlarged.unflatten(0, (batch, classes))

    def _attend(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """Linear attention of normalised tokens (B, L, T, D) with guidance (B, 1, T, G) -> (B, L, T, D)."""
        query = self.query.project_input(x) + self.query.project_guidance(guidance)
        key = self.key.project_input(x) + self.key.project_guidance(guidance)
        query, key = self._feature_map(query), self._feature_map(key)  # (B, L, T, heads, d)
        value = self.value(x).unflatten(-1, (self.heads, -1))
        token = self.attention_norm(self.padding_token)
        padding_key = self.key.project_input(token) + self.key.project_guidance(self.padding_guidance)
        padding_key = self._feature_map(padding_key) * self._padding_tokens(x.shape[2])  # (heads, d)
        padding_value = self.value(token).unflatten(-1, (self.heads, -1))

        with torch.autocast(x.device.type, enabled=False):  # sums over hundreds of tokens can overflow float16
            query, key, value, padding_key, padding_value = (
                at_least_float32(tensor) for tensor in (query, key, value, padding_key, padding_value)
            )
            key_value = torch.einsum("blthd,blthe->blhde", key, value)
            key_value = key_value + torch.einsum("hd,he->hde", padding_key, padding_value)
            key_sum = key.sum(dim=2) + padding_key  # (B, L, heads, d)
            numerator = torch.einsum("blthd,blhde->blthe", query, key_value)
            denominator = torch.einsum("blthd,blhd->blth", query, key_sum) + LINEAR_ATTENTION_EPSILON
        return (numerator / denominator[..., None]).flatten(-2)

    def _padding_tokens(self, classes: int | torch.SymInt) -> int | torch.SymInt:
        """The number of padding tokens for a number of classes."""
        missing = self.padded_classes - classes
        # In an exported graph the number of classes is dynamic, and max() would fix it.
        return torch.sym_max(missing, 0) if isinstance(missing, torch.SymInt) else max(missing, 0)

    def _feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """ELU + 1, split into heads: (..., D) -> (..., heads, d)."""
        return F.elu(x.unflatten(-1, (self.heads, -1))) + 1


class CostVolumeAggregator(nn.Module):
    """Layers of spatial and class aggregation, guided by CLIP's appearance features and the text.

    Args:
        layers: number of pairs of spatial and class aggregation.
        width: channels D of the cost embedding.
        heads: number of attention heads.
        grid_size: tokens per side of the dense grid.
        window_size: tokens per side of a window; must divide ``grid_size``.
        dense_channels: channels of CLIP's dense feature.
        text_channels: channels of the text embeddings.
        appearance_width: channels of the projected dense feature.
        text_width: channels of the projected text embeddings.
        class_pooling: factor by which the map is average-pooled before the class attention and upsampled after it.
        padded_classes: number of tokens in the class attention, including padding.
        class_chunk: classes at a time in the spatial aggregation, to save memory; 0 for all.
        recompute: store only the inputs of a layer for the backward pass, and recompute the rest.
    """

    @configurable
    def __init__(
        self,
        *,
        layers: int,
        width: int,
        heads: int,
        grid_size: int,
        window_size: int,
        dense_channels: int,
        text_channels: int,
        appearance_width: int,
        text_width: int,
        class_pooling: int,
        padded_classes: int,
        class_chunk: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if class_chunk < 0:
            raise ConfigError(f"MODEL.AGGREGATOR.CLASS_CHUNK is {class_chunk}; give a number of classes, or 0 for all.")
        if min(window_size, class_pooling) < 1 or grid_size % window_size or grid_size % class_pooling:
            raise ConfigError(
                f"The dense grid has {grid_size} tokens per side; MODEL.AGGREGATOR.WINDOW_SIZE ({window_size}) and "
                f"CLASS_POOLING ({class_pooling}) must divide it."
            )
        if width % heads:
            raise ConfigError(
                f"MODEL.COST_VOLUME.WIDTH ({width}) must be a multiple of MODEL.AGGREGATOR.HEADS ({heads})."
            )
        self.class_chunk = class_chunk
        self.recompute = recompute
        self.appearance_projection = nn.Conv2d(dense_channels, appearance_width, kernel_size=3, padding=1)
        self.text_projection = nn.Linear(text_channels, text_width)
        self.spatial = nn.ModuleList(
            SpatialAggregation(
                width=width,
                guidance_width=appearance_width,
                heads=heads,
                grid_size=grid_size,
                window_size=window_size,
            )
            for _ in range(layers)
        )
        self.classes = nn.ModuleList(
            ClassAggregation(
                width=width,
                guidance_width=text_width,
                heads=heads,
                pooling=class_pooling,
                padded_classes=padded_classes,
            )
            for _ in range(layers)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, dense: ShapeSpec) -> dict:
        """Arguments from MODEL.AGGREGATOR and the shape of CLIP's dense feature."""
        node = cfg.MODEL.AGGREGATOR
        return {
            "layers": node.LAYERS,
            "width": cfg.MODEL.COST_VOLUME.WIDTH,
            "heads": node.HEADS,
            "grid_size": dense.height,
            "window_size": node.WINDOW_SIZE,
            "dense_channels": dense.channels,
            "text_channels": dense.channels,
            "appearance_width": node.APPEARANCE_WIDTH,
            "text_width": node.TEXT_WIDTH,
            "class_pooling": node.CLASS_POOLING,
            "padded_classes": node.PADDED_CLASSES,
            "class_chunk": node.CLASS_CHUNK,
            "recompute": cfg.MODEL.ACTIVATION_CHECKPOINTING,
        }

    def project_appearance(self, dense: torch.Tensor) -> torch.Tensor:
        """CLIP's dense feature (B, C, h, w), projected once per image for all classes: (B, G, h, w)."""
        return F.relu(self.appearance_projection(dense))

    def forward(self, cost_embedding: torch.Tensor, appearance: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Aggregate a cost embedding.

        Args:
            cost_embedding: (B, T, D, h, w).
            appearance: (B, G, h, w), from :meth:`project_appearance`.
            text: (B, T, C), one embedding per class.

        Returns:
            (B, T, D, h, w).
        """
        text = F.relu(self.text_projection(text))  # (B, T, G)
        x = cost_embedding
        for spatial, classes in zip(self.spatial, self.classes, strict=True):
            aggregate_space = partial(recomputed, self.recompute, spatial, guidance=appearance)
            x = by_class_chunks(self.class_chunk, aggregate_space, x)
            x = recomputed(self.recompute, classes, x, text)
        return x
