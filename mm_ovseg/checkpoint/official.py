"""Published checkpoints, of MM-OVSeg, its siblings and the encoders, brought to our names.

Every tensor is accounted for: converted, derived, or dropped for a reason that :mod:`mm_ovseg.checkpoint.layouts`
states. Whatever else a checkpoint holds, or lacks, is an error.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from mm_ovseg.checkpoint.layouts import (
    ClipSize,
    Layout,
    ModelSize,
    VitSize,
    clip_layout,
    dino_layout,
    dinov3_layout,
    model_layout,
)
from mm_ovseg.checkpoint.layouts.entry import drop
from mm_ovseg.checkpoint.state_dict import TRAINING_HEADS, describe_misfits, unwrap_state_dict
from mm_ovseg.errors import CheckpointError

__all__ = ["VARIANTS", "Variant", "convert_official_state_dict", "detect_variant", "find_layout"]

CLIP_VIT_B16 = ClipSize(VitSize(768, 12, 16, 3072, positions=197), text_width=512, text_depth=12, embedding=512)
CLIP_VIT_L14_336 = ClipSize(VitSize(1024, 24, 14, 4096, positions=577), text_width=768, text_depth=12, embedding=768)
DINO_VIT_B8 = VitSize(768, 12, 8, 3072, positions=785)
DINOV3_VIT_L16 = VitSize(1024, 24, 16, 4096, registers=4)


@dataclass(frozen=True)
class Variant:
    """One kind of published checkpoint.

    Attributes:
        title: what people call it.
        use: where our names of it are given.
        size: of a whole model; None for an encoder, whose size its tensors tell.
    """

    title: str
    use: str
    size: ModelSize | None = None


VARIANTS = {
    "vitb16": Variant(
        "MM-OVSeg ViT-B/16",
        "MODEL.WEIGHTS with configs/mm_ovseg_vitb16_384.yaml",
        ModelSize(CLIP_VIT_B16, DINO_VIT_B8, dino_sar=True),
    ),
    "vitl14": Variant(
        "MM-OVSeg ViT-L/14",
        "MODEL.WEIGHTS with configs/mm_ovseg_vitl14_336.yaml",
        ModelSize(CLIP_VIT_L14_336, DINOV3_VIT_L16, dino_sar=True),
    ),
    "gsnet": Variant(
        "GSNet ViT-B/16",
        "MODEL.WEIGHTS with configs/siblings/gsnet_vitb16_384.yaml",
        ModelSize(CLIP_VIT_B16, DINO_VIT_B8),
    ),
    "catseg": Variant(
        "CAT-Seg ViT-B/16",
        "MODEL.WEIGHTS with configs/siblings/catseg_vitb16_384.yaml",
        ModelSize(CLIP_VIT_B16),
    ),
    "dino": Variant("DINO v1", "MODEL.DENSE_ENCODER.PRETRAINED or MODEL.DENSE_ENCODER_SAR.WEIGHTS"),
    "dinov3": Variant(
        "DINOv3", "MODEL.DENSE_ENCODER.PRETRAINED or MODEL.DENSE_ENCODER_SAR.WEIGHTS, of a model named ..._qkvb"
    ),
    "clip": Variant("OpenAI CLIP", "MODEL.CLIP.PRETRAINED"),
}

# Names that tell a checkpoint of ours: of a whole model, of stage 1, and of a converted DINOv3.
OWN_NAMES = re.compile(
    r"clip\.encoder\.|sem_seg_head\.cost_volume_embedding\.|student\.(?:model|visual)\.|blocks\.\d+\.attn\.q_bias"
)


def convert_official_state_dict(state_dict: Mapping[str, Any], variant: str | None = None) -> dict[str, torch.Tensor]:
    """Bring a published checkpoint to our names.

    Args:
        state_dict: released names to tensors; or what the file holds around them, under ``model``, ``teacher`` or
            ``state_dict``, with ``module.`` or ``backbone.`` before the names.
        variant: a key of :data:`VARIANTS`. ``"vitb16"``, ``"vitl14"``, ``"gsnet"`` and ``"catseg"`` give whole models,
            ``"dino"`` and ``"dinov3"`` encoders in timm's names (of stage 1 too), ``"clip"`` one in open_clip's. None:
            as the names tell.

    Returns:
        Our names to tensors, of the type that they had (an interpolated positional embedding: float32).

    Raises:
        CheckpointError: a tensor is missing, left over or of another shape (the message lists them), the checkpoint is
            of another model, or has our names already.
    """
    state_dict = unwrap_state_dict(state_dict)
    layout = find_layout(state_dict, variant)
    converted = {}
    for name, tensor in state_dict.items():
        entry = layout[name]
        if entry.derive is not None:
            # Copies, since parts of one tensor cannot be written to safetensors.
            derived = (part.clone() for part in entry.derive(tensor))
            converted |= dict(zip(entry.targets, derived, strict=True))
        elif entry.targets:
            (target,) = entry.targets
            converted[target] = tensor
    return converted


def detect_variant(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """The key of :data:`VARIANTS` whose names an unwrapped state dict comes closest to; None where none is close."""
    names = state_dict.keys()
    if any(OWN_NAMES.match(name) for name in names):
        return None
    if any(name.startswith("sem_seg_head.predictor.") for name in names):
        misfits = {
            key: len(names ^ _kept(model_layout(variant.size)))
            for key, variant in VARIANTS.items()
            if variant.size is not None
        }
        return min(misfits, key=misfits.__getitem__)
    if any(name.startswith("blocks.0.attn.qkv.") for name in names):
        if names & {"storage_tokens", "rope_embed.periods"}:
            return "dinov3"
        later = ("reg_token", "register_tokens", "blocks.0.ls1.gamma", "blocks.0.gamma_1")  # of timm, and DINOv2
        return "dino" if names & {"cls_token", "pos_embed"} and not names & set(later) else None
    if any(name.startswith("visual.transformer.") for name in names) and "token_embedding.weight" in names:
        return "clip"
    return None


def find_layout(state_dict: Mapping[str, torch.Tensor], variant: str | None = None) -> Layout:
    """The entry of every tensor of an unwrapped state dict.

    Raises:
        CheckpointError: as :func:`convert_official_state_dict`.
    """
    if variant is not None and variant not in VARIANTS:
        raise CheckpointError(f"There is no variant '{variant}' of published checkpoints; use {', '.join(VARIANTS)}.")
    if any(OWN_NAMES.match(name) for name in state_dict):
        raise CheckpointError("The checkpoint has the names that mm_ovseg reads already; use it as it is.")
    detected = detect_variant(state_dict)
    if detected is None:
        wanted = VARIANTS if variant is None else [variant]
        raise CheckpointError(
            f"The checkpoint is not of {' or '.join(VARIANTS[key].title for key in wanted)}: it holds "
            f"{', '.join(sorted(state_dict)[:3]) or 'no tensors'}{', …' if len(state_dict) > 3 else ''}."
        )
    layout = _layout(state_dict, detected)
    problems = _misfits(state_dict, layout)
    if variant not in (None, detected):
        other = "" if problems else f"; convert it as '{detected}'"
        likeness = "closest to" if problems else "of"
        raise CheckpointError(
            f"The checkpoint is not of {VARIANTS[variant].title} but {likeness} {VARIANTS[detected].title}{other}."
        )
    if problems:
        raise CheckpointError(
            f"The checkpoint comes closest to {VARIANTS[detected].title}, but its tensors do not fit: {problems}. "
            "Check that the file is the published one, whole, unchanged and of this size."
        )
    return layout


def _kept(layout: Layout) -> set[str]:
    return {name for name, entry in layout.items() if entry.targets}


def _misfits(state_dict: Mapping[str, torch.Tensor], layout: Layout) -> str:
    kept = _kept(layout)
    return describe_misfits(
        missing=kept - state_dict.keys(),
        unexpected=state_dict.keys() - layout.keys(),
        reshaped=[
            (name, state_dict[name].shape, layout[name].shape)
            for name in kept & state_dict.keys()
            if state_dict[name].shape != layout[name].shape
        ],
    )


def _layout(state_dict: Mapping[str, torch.Tensor], variant: str) -> Layout:
    """What a checkpoint of this variant holds; of encoders, of the size that this one's tensors tell."""
    size = VARIANTS[variant].size
    if size is not None:
        return model_layout(size)
    axis = partial(_axis, state_dict, VARIANTS[variant].title)
    if variant == "clip":
        return clip_layout(_clip_size(state_dict, axis))
    encoder_layout = dinov3_layout if variant == "dinov3" else dino_layout
    layout = encoder_layout(_vit_size(state_dict, axis))
    for name in state_dict:
        if name.startswith(TRAINING_HEADS):
            layout |= drop(name, "a head of the encoder's own training")
    return layout


def _axis(state_dict: Mapping[str, torch.Tensor], title: str, name: str, axis: int, axes: int) -> int:
    """The length of one axis of a tensor that has ``axes`` of them."""
    if name not in state_dict:
        raise CheckpointError(f"The checkpoint comes closest to {title}, but {name} is missing.")
    if state_dict[name].dim() != axes:
        raise CheckpointError(
            f"The checkpoint comes closest to {title}, but {name} has the shape {tuple(state_dict[name].shape)}, which "
            f"should have {axes} axes."
        )
    return state_dict[name].shape[axis]


def _vit_size(state_dict: Mapping[str, torch.Tensor], axis: Callable[[str, int, int], int]) -> VitSize:
    is_dinov3 = "storage_tokens" in state_dict or "rope_embed.periods" in state_dict
    return VitSize(
        width=axis("patch_embed.proj.weight", 0, 4),
        depth=_count_blocks(state_dict, "blocks."),
        patch_size=axis("patch_embed.proj.weight", -1, 4),
        hidden=axis("blocks.0.mlp.fc1.weight", 0, 2),
        positions=0 if is_dinov3 else axis("pos_embed", 1, 3),
        registers=axis("storage_tokens", 1, 3) if is_dinov3 else 0,
    )


def _clip_size(state_dict: Mapping[str, torch.Tensor], axis: Callable[[str, int, int], int]) -> ClipSize:
    return ClipSize(
        visual=VitSize(
            width=axis("visual.conv1.weight", 0, 4),
            depth=_count_blocks(state_dict, "visual.transformer.resblocks."),
            patch_size=axis("visual.conv1.weight", -1, 4),
            hidden=axis("visual.transformer.resblocks.0.mlp.c_fc.weight", 0, 2),
            positions=axis("visual.positional_embedding", 0, 2),
        ),
        text_width=axis("text_projection", 0, 2),
        text_depth=_count_blocks(state_dict, "transformer.resblocks."),
        embedding=axis("text_projection", 1, 2),
        vocabulary=axis("token_embedding.weight", 0, 2),
        context=axis("positional_embedding", 0, 2),
    )


def _count_blocks(state_dict: Mapping[str, torch.Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state_dict if name.startswith(prefix)})
