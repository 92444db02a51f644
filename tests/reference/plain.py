"""The plain formulation of stage 2: what the method's released code computes, in the order it computes it.

It takes our modules' weights, and serves as the oracle of numbers and of speed for the fast formulation (design §8).
Guidance is repeated for every class and concatenated, attention matrices are explicit, and the padding of the class
attention consists of real tokens. Like the released code it has no guard for sums in float16.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.modeling.aggregator import ClassAggregation, CostVolumeAggregator, SpatialAggregation
from mm_ovseg.modeling.decoder import GuidedDecoder
from mm_ovseg.modeling.encoders import ProjectedEncoder
from mm_ovseg.modeling.fusion import CostVolumeEmbedding
from mm_ovseg.modeling.meta_arch.mm_ovseg import MMOVSeg
from mm_ovseg.modeling.precision import at_least_float32
from tests.reference.encoders import PLAIN_ENCODERS, explicit_attention, linear, plain_preprocess, plain_text


def plain_logits(model: MMOVSeg, batched_inputs: Sequence[dict], names: Sequence[str]) -> torch.Tensor:
    """What ``model.predict_logits`` computes.

    Args:
        model: a stage 2 model without a SAR twin of CLIP, and with a MAX_CLASSES that leaves out none of ``names``.
        batched_inputs: B pairs with ``image`` and, where the model needs it, ``sar_image`` (3, H, W), 0..255.
        names: T class names.

    Returns:
        (B, T, 4h, 4w).
    """
    head = model.sem_seg_head
    assert model.clip_sar is None, "the plain formulation knows no SAR twin of CLIP"
    assert not 0 < head.max_classes < len(names), "the plain formulation aggregates every class"
    images = [item["image"].to(model.device) for item in batched_inputs]
    clip_dense, *clip_guidance = _features(model.clip, images)
    text = plain_text(model.text, names)  # (P, T, C)
    guidance, dino_cost = [clip_guidance], None
    if model.dino is not None:
        dino = _features(model.dino, images)
        if model.dino_sar is not None:
            sar_images = [item["sar_image"].to(model.device) for item in batched_inputs]
            dino = [rgb + sar for rgb, sar in zip(dino, _features(model.dino_sar, sar_images), strict=True)]
        dino_dense, *dino_guidance = dino
        guidance.append(dino_guidance)
        dino_cost = plain_cost_volume(dino_dense, text)

    class_text = F.normalize(text.mean(dim=0), dim=-1).expand(len(images), -1, -1)  # (B, T, C)
    x = plain_cost_embedding(head.cost_volume_embedding, plain_cost_volume(clip_dense, text), dino_cost)
    x = plain_aggregator(head.aggregator, x, clip_dense, class_text)
    return plain_decoder(head.decoder, x, guidance)


def plain_loss(model: MMOVSeg, batched_inputs: Sequence[dict]) -> torch.Tensor:
    """The training loss, a scalar, of pairs with ``sem_seg`` (H, W), for ``model.train_vocabulary``."""
    logits = plain_logits(model, batched_inputs, model.train_vocabulary)
    targets = [item["sem_seg"].to(logits.device) for item in batched_inputs]
    losses = [_pixel_losses(model, *pair) for pair in zip(logits.split(1), (t[None] for t in targets), strict=True)]
    return torch.cat(losses).mean()


def plain_cost_volume(dense: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Cosine similarities of (B, C, h, w) with (P, T, C) -> (B, P, T, h, w)."""
    return torch.einsum("bchw,ptc->bpthw", F.normalize(dense, dim=1), F.normalize(text, dim=-1).to(dense.dtype))


def plain_cost_embedding(
    module: CostVolumeEmbedding, clip_cost: torch.Tensor, dino_cost: torch.Tensor | None
) -> torch.Tensor:
    """Cost volumes (B, P, T, h, w), DINO's or None -> their fused embedding (B, T, D, h, w)."""
    batch, _, classes = clip_cost.shape[:3]
    clip = module.clip(clip_cost.transpose(1, 2).flatten(0, 1))  # (B * T, D, h, w)
    if dino_cost is not None:
        clip = clip.sigmoid()
        dino = module.dino(dino_cost.transpose(1, 2).flatten(0, 1)).sigmoid()
        clip = module.fuse(torch.cat([clip, dino], dim=1)).sigmoid() + clip
    return clip.unflatten(0, (batch, classes))


def plain_aggregator(
    module: CostVolumeAggregator, cost_embedding: torch.Tensor, dense: torch.Tensor, text: torch.Tensor
) -> torch.Tensor:
    """Cost embedding (B, T, D, h, w), CLIP's dense feature (B, C, h, w) and text (B, T, C) -> (B, T, D, h, w)."""
    appearance = F.relu(module.appearance_projection(dense))  # (B, G, h, w)
    text = F.relu(module.text_projection(text))  # (B, T, G')
    x = cost_embedding
    for spatial, classes in zip(module.spatial, module.classes, strict=True):
        x = plain_spatial_aggregation(spatial, x, appearance)
        x = plain_class_aggregation(classes, x, text)
    return x


def plain_spatial_aggregation(module: SpatialAggregation, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
    """Class maps (B, T, D, h, w) and appearance guidance (B, G, h, w) -> (B, T, D, h, w)."""
    batch, classes = x.shape[:2]
    guidance = guidance.repeat_interleave(classes, dim=0).permute(0, 2, 3, 1)  # (B * T, h, w, G)
    guidance = module.guidance_norm(guidance)
    x = x.flatten(0, 1).permute(0, 2, 3, 1)  # (B * T, h, w, D)
    for block in module.blocks:
        x = _window_block(block, x, guidance)
    return x.permute(0, 3, 1, 2).unflatten(0, (batch, classes))


def plain_class_aggregation(module: ClassAggregation, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
    """Class maps (B, T, D, h, w) and text guidance (B, T, G) -> (B, T, D, h, w)."""
    batch, classes, _, height, width = x.shape
    pooled = F.avg_pool2d(x.flatten(0, 1), module.pooling)  # (B * T, D, h', w')
    size = pooled.shape[-2:]
    places = size.numel()
    tokens = pooled.unflatten(0, (batch, classes)).permute(0, 3, 4, 1, 2).flatten(0, 2)  # (B * h' * w', T, D)
    guidance = guidance.repeat_interleave(places, dim=0)  # (B * h' * w', T, G)
    padding = module.padded_classes - classes
    if padding > 0:
        tokens = torch.cat([tokens, module.padding_token.expand(len(tokens), padding, -1)], dim=1)
        guidance = torch.cat([guidance, module.padding_guidance.expand(len(tokens), padding, -1)], dim=1)

    normed = module.attention_norm(tokens)  # (B * h' * w', T + padding, D)
    query, key, value = _query_key_value(module, normed, guidance)
    query, key, value = (t.unflatten(-1, (module.heads, -1)) for t in (query, key, value))  # (..., heads, d)
    query, key = F.elu(query) + 1, F.elu(key) + 1
    key_value = torch.einsum("lthd,lthe->lhde", key, value)
    total = torch.einsum("lthd,lhd->lth", query, key.sum(dim=1)) + 1e-6
    attended = torch.einsum("lthd,lhde->lthe", query, key_value) / total[..., None]
    tokens = tokens + attended.flatten(2)
    tokens = tokens + module.mlp(module.mlp_norm(tokens))

    pooled = tokens[:, :classes].unflatten(0, (batch, *size)).permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B * T, D, h', w')
    enlarged = F.interpolate(pooled, (height, width), mode="bilinear", align_corners=True)
    return x + enlarged.unflatten(0, (batch, classes))


def plain_decoder(module: GuidedDecoder, x: torch.Tensor, guidance: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """Class maps (B, T, D, h, w), and (B, G0, 2h, 2w) and (B, G1, 4h, 4w) of every encoder -> (B, T, 4h, 4w)."""
    batch, classes = x.shape[:2]
    x = x.flatten(0, 1)  # (B * T, D, h, w)
    for level, (projections, upsampling) in enumerate(
        zip(module.guidance_projections, module.upsamplings, strict=True)
    ):
        projected = [F.relu(layer(maps[level])) for layer, maps in zip(projections, guidance, strict=True)]
        repeated = [maps.repeat_interleave(classes, dim=0) for maps in projected]  # (B * T, G, 2h, 2w)
        x = torch.cat([upsampling.up(x), *repeated], dim=1)
        x = F.conv2d(x, upsampling.guided_conv.weight, padding=1)  # (B * T, D', 2h, 2w)
        x = F.relu(upsampling.guided_norm(x))
        x = F.relu(upsampling.norm(upsampling.conv(x)))
    return module.logits(x).squeeze(1).unflatten(0, (batch, classes))


def _features(projected: ProjectedEncoder, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Images (3, H, W) -> the dense feature (B, C, h, w) and guidance (B, G0, 2h, 2w), (B, G1, 4h, 4w)."""
    encoder, projection = projected.encoder, projected.projection
    pixels = plain_preprocess(encoder, images)
    *guidance, dense = PLAIN_ENCODERS[type(encoder)](encoder, pixels)
    coarse, fine = guidance
    return [projection.dense(dense), projection.coarse(coarse), projection.fine(fine)]


def _query_key_value(module: nn.Module, x: torch.Tensor, guidance: torch.Tensor) -> list[torch.Tensor]:
    """Queries and keys of [x; guidance], (..., D) and (..., G), and values of x; each (..., D)."""
    both = torch.cat([x, guidance.to(x.dtype)], dim=-1)
    layers = [(both, module.query), (both, module.key), (x, module.value)]
    return [linear(layer, tokens) for tokens, layer in layers]


def _window_block(block: nn.Module, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
    """Class maps (M, h, w, D) and guidance (M, h, w, G), one for each -> (M, h, w, D)."""
    shape, size, shift = x.shape, block.window_size, block.shift
    rolled = block.attention_norm(x).roll((-shift, -shift), dims=(1, 2))
    rolled_guidance = guidance.roll((-shift, -shift), dims=(1, 2))
    query, key, value = (
        t.unflatten(-1, (block.heads, -1)).transpose(1, 2)  # (M * windows, heads, N, d)
        for t in _query_key_value(block, _windows(rolled, size), _windows(rolled_guidance, size))
    )
    mask = _shifted_window_mask(shape[1], shape[2], size, shift).to(query)  # (windows, N, N)
    mask = mask.repeat(len(x), 1, 1)[:, None]  # (M * windows, 1, N, N)
    attended = explicit_attention(query, key, value, mask).transpose(1, 2).flatten(2)  # (M * windows, N, D)
    attended = linear(block.output, attended).unflatten(1, (size, size))
    attended = attended.unflatten(0, (shape[0], shape[1] // size, shape[2] // size)).transpose(2, 3)
    x = x + attended.reshape(shape).roll((shift, shift), dims=(1, 2))
    return x + block.mlp(block.mlp_norm(x))


def _windows(x: torch.Tensor, size: int) -> torch.Tensor:
    """(M, h, w, D) -> (M * windows, size * size, D)."""
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3)  # (M, rows, columns, size, size, D)
    return x.flatten(3, 4).flatten(0, 2)


def _shifted_window_mask(height: int, width: int, size: int, shift: int) -> torch.Tensor:
    """(windows, N, N): -100 between tokens of a window that the cyclic shift brought there from other places."""
    region = torch.zeros(1, height, width, 1)
    if shift:
        parts = (slice(0, -size), slice(-size, -shift), slice(-shift, None))
        for number, (rows, columns) in enumerate((rows, columns) for rows in parts for columns in parts):
            region[:, rows, columns] = number
    region = _windows(region, size).squeeze(2)  # (windows, N)
    return (region[:, :, None] != region[:, None, :]) * -100.0


def _pixel_losses(model: MMOVSeg, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Logits (1, T, h, w) and labels (1, H, W) -> the losses (N,) of the pixels that count, at the labels' size."""
    logits = F.interpolate(at_least_float32(logits), target.shape[1:], mode="bilinear", align_corners=False)
    counted = target != model.ignore_label  # (1, H, W)
    if model.loss_name == "cross_entropy":
        return F.cross_entropy(logits, target, ignore_index=model.ignore_label, reduction="none")[counted]
    one_hot = F.one_hot(target.where(counted, 0), logits.shape[1]).permute(0, 3, 1, 2)  # (1, T, H, W)
    positive = (one_hot * counted[:, None]).to(logits)
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none").mean(dim=1)  # (1, H, W)
    return losses.flatten() if model.ignored_as_negative else losses[counted]
