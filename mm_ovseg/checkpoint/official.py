"""Published checkpoints, of MM-OVSeg, its siblings and the encoders, brought to our names.

Every tensor is accounted for: converted, derived, or dropped for a reason that :mod:`mm_ovseg.checkpoint.layouts`
states. Whatever else a checkpoint holds, or lacks, is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
    "dino": Variant("DINO v1", "MODEL.DINO.PRETRAINED or MODEL.DINO_SAR.WEIGHTS"),
    "dinov3": Variant("DINOv3", "MODEL.DINO.PRETRAINED or MODEL.DINO_SAR.WEIGHTS, of a model named ..._qkvb"),
    "clip": Variant("OpenAI CLIP", "MODEL.CLIP.PRETRAINED"),
}

# Names that tell a checkpoint of ours.
OWN_PREFIXES = ("clip.encoder.", "sem_seg_head.cost_volume_embedding.")


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
        if entry.derive is None:
            converted |= dict.fromkeys(entry.targets, tensor)
        else:
            # Copies, since parts of one tensor cannot be written to safetensors.
            derived = (part.clone() for part in entry.derive(tensor))
            converted |= dict(zip(entry.targets, derived, strict=True))
    return converted


def detect_variant(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """The key of :data:`VARIANTS` that an unwrapped state dict looks like, by its names; None where there is none."""
    if any(name.startswith("sem_seg_head.predictor.") for name in state_dict):
        if not any(name.startswith("dino_") for name in state_dict):
            return "catseg"
        if "dino_model.storage_tokens" in state_dict:
            return "vitl14"
        return "vitb16" if any(name.startswith("dino_sar") for name in state_dict) else "gsnet"
    if "storage_tokens" in state_dict:
        return "dinov3"
    if {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} <= state_dict.keys():
        return "dino"
    if {"visual.conv1.weight", "visual.transformer.resblocks.0.attn.in_proj_weight"} <= state_dict.keys():
        return "clip"
    return None


def find_layout(state_dict: Mapping[str, torch.Tensor], variant: str | None = None) -> Layout:
    """The entry of every tensor of an unwrapped state dict.

    Raises:
        CheckpointError: as :func:`convert_official_state_dict`.
    """
    if variant is not None and variant not in VARIANTS:
        raise CheckpointError(f"There is no variant '{variant}' of published checkpoints; use {', '.join(VARIANTS)}.")
    if any(name.startswith(OWN_PREFIXES) for name in state_dict):
        raise CheckpointError("The checkpoint has mm_ovseg's names already; use it as it is, as MODEL.WEIGHTS.")
    detected = detect_variant(state_dict)
    if detected is None:
        known = VARIANTS if variant is None else [variant]
        raise CheckpointError(
            f"The checkpoint is not of {' or '.join(VARIANTS[key].title for key in known)}: it holds "
            f"{', '.join(sorted(state_dict)[:3]) or 'no tensors'}{', …' if len(state_dict) > 3 else ''}."
        )
    if variant not in (None, detected):
        raise CheckpointError(
            f"The checkpoint is not of {VARIANTS[variant].title} but of {VARIANTS[detected].title}; convert it as "
            f"'{detected}'."
        )
    variant, title = detected, VARIANTS[detected].title
    try:
        layout = _layout(state_dict, variant)
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"The checkpoint is no whole one of {title}: {error.args[0]} is missing or of another shape."
        ) from error
    known = {name for name, entry in layout.items() if entry.targets}
    problems = describe_misfits(
        missing=known - state_dict.keys(),
        unexpected=state_dict.keys() - layout.keys(),
        reshaped=(
            f"{name} is {tuple(state_dict[name].shape)}, not {layout[name].shape}"
            for name in known & state_dict.keys()
            if state_dict[name].shape != layout[name].shape
        ),
    )
    if problems:
        raise CheckpointError(
            f"The checkpoint looks like one of {title}, but its tensors do not fit: {problems}. "
            "Check that the file is the published one, whole and unchanged."
        )
    return layout


def _layout(state_dict: Mapping[str, torch.Tensor], variant: str) -> Layout:
    """What a checkpoint of this variant holds; of encoders, of the size that this one's tensors tell."""
    size = VARIANTS[variant].size
    if size is not None:
        return model_layout(size)
    if variant == "clip":
        return clip_layout(_clip_size(state_dict))
    layout = dinov3_layout(_vit_size(state_dict)) if variant == "dinov3" else dino_layout(_vit_size(state_dict))
    heads = [name for name in state_dict if name.startswith(TRAINING_HEADS)]
    for name in heads:
        layout |= drop(name, "a head of the encoder's own training")
    return layout


def _vit_size(state_dict: Mapping[str, torch.Tensor]) -> VitSize:
    position, registers = state_dict.get("pos_embed"), state_dict.get("storage_tokens")
    return VitSize(
        width=state_dict["cls_token"].shape[-1],
        depth=_count_blocks(state_dict, "blocks."),
        patch_size=state_dict["patch_embed.proj.weight"].shape[-1],
        hidden=state_dict["blocks.0.mlp.fc1.weight"].shape[0],
        positions=0 if position is None else position.shape[1],
        registers=0 if registers is None else registers.shape[1],
    )


def _clip_size(state_dict: Mapping[str, torch.Tensor]) -> ClipSize:
    convolution = state_dict["visual.conv1.weight"]
    text_projection = state_dict["text_projection"]
    return ClipSize(
        visual=VitSize(
            width=convolution.shape[0],
            depth=_count_blocks(state_dict, "visual.transformer.resblocks."),
            patch_size=convolution.shape[-1],
            hidden=state_dict["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            positions=state_dict["visual.positional_embedding"].shape[0],
        ),
        text_width=text_projection.shape[0],
        text_depth=_count_blocks(state_dict, "transformer.resblocks."),
        embedding=text_projection.shape[1],
        vocabulary=state_dict["token_embedding.weight"].shape[0],
        context=state_dict["positional_embedding"].shape[0],
    )


def _count_blocks(state_dict: Mapping[str, torch.Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state_dict if name.startswith(prefix)})
