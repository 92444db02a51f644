"""The encoders the straightforward way: the full N x N attention matrix of every head, PyTorch's own linear layers, and
nothing from a cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.modeling import cpu_kernels
from mm_ovseg.modeling.backbone.clip import CLIPImageEncoder, SelfAttention
from mm_ovseg.modeling.backbone.dino import DINOEncoder
from mm_ovseg.modeling.backbone.image_encoder import ImageEncoder
from mm_ovseg.modeling.text import TextEmbedder
from mm_ovseg.vocabulary import split_synonyms


def linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A linear layer whatever its ``forward`` does: (..., in_features) -> (..., out_features)."""
    return F.linear(x, layer.weight, layer.bias)


def explicit_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """softmax(q k^T / sqrt(d) + mask) v of (..., N, d), the mask broadcast to (..., N, N) -> (..., N, d)."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # (..., N, N)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1).to(value.dtype) @ value


def plain_preprocess(encoder: ImageEncoder, images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Images (3, H, W), 0..255, of any sizes -> (B, 3, image_size, image_size), normalised and resized one by one."""
    size = (encoder.image_size, encoder.image_size)
    batch = []
    for image in images:
        image = (image.to(encoder.pixel_mean) - encoder.pixel_mean) / encoder.pixel_std
        batch.append(F.interpolate(image[None], size, mode="bilinear", align_corners=False))
    return torch.cat(batch)


def plain_clip(encoder: CLIPImageEncoder, images: torch.Tensor) -> list[torch.Tensor]:
    """CLIP read densely.

    Args:
        encoder: whose weights are used.
        images: (B, 3, image_size, image_size), preprocessed.

    Returns:
        The outputs of the guidance blocks (B, width, h, w), then the dense feature (B, C, h, w).
    """
    visual, size = encoder.visual, encoder.grid_size
    x = visual.conv1(images).flatten(2).transpose(1, 2)  # (B, h * w, width)
    x = torch.cat([visual.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)  # (B, 1 + h * w, width)
    x = visual.ln_pre(x + _positional_embedding(visual.positional_embedding, size).to(x.dtype))

    outputs = []
    *blocks, last_block = visual.transformer.resblocks
    for block in blocks:
        x = _clip_block(block, x)
        outputs.append(x)
    value = linear(last_block.attn.value, last_block.ln_1(x))
    x = linear(last_block.attn.output, value) + x[:, :1]  # no queries, no keys; the CLS token as the residual
    x = x + _clip_mlp(last_block.mlp, last_block.ln_2(x))
    dense = visual.ln_post(x) @ visual.proj  # (B, 1 + h * w, C)
    return [_to_grid(tokens, size) for tokens in (*(outputs[block - 1] for block in encoder.blocks[:-1]), dense)]


def plain_dino(encoder: DINOEncoder, images: torch.Tensor) -> list[torch.Tensor]:
    """Preprocessed images (B, 3, image_size, image_size) -> a (B, D, h', w') for each of ``encoder.blocks``."""
    indices = [block - 1 for block in encoder.blocks]
    with _plain_timm(encoder.model):
        maps = encoder.model.forward_intermediates(
            images, indices=sorted(set(indices)), norm=True, intermediates_only=True
        )
    return [maps[sorted(set(indices)).index(index)] for index in indices]


PLAIN_ENCODERS = {CLIPImageEncoder: plain_clip, DINOEncoder: plain_dino}


def plain_text(embedder: TextEmbedder, names: Sequence[str]) -> torch.Tensor:
    """T class names -> embeddings (P, T, C), L2-normalised, for P templates; never from the cache."""
    synonyms = [split_synonyms(name)[: 1 if embedder.synonyms == "first" else None] for name in names]
    embeddings = []
    for template in embedder.templates:
        texts = [template.replace("{}", synonym) for group in synonyms for synonym in group]
        tokens = embedder.tokenizer(texts).to(embedder.device)  # (all synonyms, L)
        features = F.normalize(_text_features(embedder.tower, tokens), dim=-1)  # (all synonyms, C)
        groups = features.split([len(group) for group in synonyms])
        embeddings.append(F.normalize(torch.stack([group.mean(dim=0) for group in groups]), dim=-1))  # (T, C)
    return torch.stack(embeddings)


def _text_features(tower: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids (N, L) -> what the end-of-text token, which has the highest id, becomes: (N, C)."""
    length = tokens.shape[1]
    x = tower.token_embedding(tokens) + tower.positional_embedding[:length]  # (N, L, D)
    future = torch.full((length, length), float("-inf"), device=x.device, dtype=x.dtype).triu(1)
    for block in tower.transformer.resblocks:
        x = _clip_block(block, x, future)
    x = tower.ln_final(x)[torch.arange(len(x), device=x.device), tokens.argmax(dim=1)]  # (N, D)
    return x @ tower.text_projection


def _clip_block(block: nn.Module, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """A block of either CLIP tower on tokens (B, N, D); the mask (N, N) is added to the scores."""
    x = x + _self_attention(block.attn, block.ln_1(x), mask)
    return x + _clip_mlp(block.mlp, block.ln_2(x))


def _clip_mlp(mlp: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return linear(mlp.c_proj, mlp.gelu(linear(mlp.c_fc, x)))


def _self_attention(attention: SelfAttention, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Multi-head attention among tokens (B, N, D)."""
    query, key, value = (
        linear(projection, x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
        for projection in (attention.query, attention.key, attention.value)
    )
    attended = explicit_attention(query, key, value, mask)
    return linear(attention.output, attended.transpose(1, 2).flatten(2))  # (B, N, D)


def _positional_embedding(embedding: torch.Tensor, size: int) -> torch.Tensor:
    """(1 + n * n, D) -> (1 + size * size, D), bicubic without antialiasing."""
    stored = int((len(embedding) - 1) ** 0.5)
    if stored == size:
        return embedding
    grid = embedding[1:].T.reshape(1, -1, stored, stored)
    grid = F.interpolate(grid, (size, size), mode="bicubic", align_corners=False)
    return torch.cat([embedding[:1], grid[0].flatten(1).T])


def _to_grid(tokens: torch.Tensor, size: int) -> torch.Tensor:
    """Tokens after a CLS token (B, 1 + size * size, D) -> (B, D, size, size)."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (size, size))


@contextmanager
def _plain_timm(model: nn.Module) -> Iterator[None]:
    """Timm's own explicit attention in place of the fused kernel, and no linear layers of ours, for a while."""
    fused = [module for module in model.modules() if getattr(module, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False
    try:
        with mock.patch.object(cpu_kernels, "HAS_ONEDNN", False):
            yield
    finally:
        for module in fused:
            module.fused_attn = True
