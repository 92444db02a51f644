"""Converting published checkpoints of MM-OVSeg, its siblings and the encoders to our names.

Every tensor is accounted for: renamed, derived, or dropped for a reason given in
:mod:`mm_ovseg.checkpoint.rename_tables`. Any other or missing tensor is an error.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mm_ovseg.checkpoint.rename_tables import MODEL_TABLES, RenameTable, encoder_table
from mm_ovseg.checkpoint.segearth_table import segearth_table
from mm_ovseg.checkpoint.state_dict import describe_misfits, unwrap_state_dict
from mm_ovseg.errors import CheckpointError

__all__ = ["VARIANTS", "Variant", "convert_official_state_dict", "detect_variant", "find_renames"]


@dataclass(frozen=True)
class Variant:
    """A kind of published checkpoint: its common name, and the config key for it."""

    title: str
    use: str


VARIANTS = {
    "vitb16": Variant("MM-OVSeg ViT-B/16", "MODEL.WEIGHTS with configs/mm_ovseg_vitb16_384.yaml"),
    "vitl14": Variant("MM-OVSeg ViT-L/14", "MODEL.WEIGHTS with configs/mm_ovseg_vitl14_336.yaml"),
    "gsnet": Variant("GSNet ViT-B/16", "MODEL.WEIGHTS with configs/siblings/gsnet_vitb16_384.yaml"),
    "catseg": Variant("CAT-Seg ViT-B/16", "MODEL.WEIGHTS with configs/siblings/catseg_vitb16_384.yaml"),
    "ebseg": Variant("EBSeg ViT-B/16", "MODEL.WEIGHTS with configs/siblings/ebseg_vitb16_640.yaml"),
    "fgaseg": Variant("FGAseg ViT-B/16", "MODEL.WEIGHTS with configs/siblings/fgaseg_vitb16_384.yaml"),
    "segearth": Variant(
        "SegEarth-OV, or its upsampler SimFeatUp alone",
        "MODEL.SEGEARTH.UPSAMPLER_WEIGHTS with configs/siblings/segearth_ov_vitb16.yaml",
    ),
    "dino": Variant("DINO v1", "MODEL.DENSE_ENCODER.PRETRAINED or MODEL.DENSE_ENCODER_SAR.WEIGHTS"),
    "dinov3": Variant(
        "DINOv3", "MODEL.DENSE_ENCODER.PRETRAINED or MODEL.DENSE_ENCODER_SAR.WEIGHTS, of a model named ..._qkvb"
    ),
    "clip": Variant("OpenAI CLIP", "MODEL.CLIP.PRETRAINED"),
}

# Names in our own checkpoints: of a whole model, of SimFeatUp, of stage 1, and of a converted DINOv3.
OWN_NAMES = re.compile(
    r"clip\.encoder\.|sam\.model\.|sem_seg_head\.cost_volume_embedding\.|upsampler\.step\.|student\.(?:model|visual)\.|"
    r"blocks\.\d+\.attn\.q_bias"
)


def convert_official_state_dict(state_dict: Mapping[str, Any], variant: str | None = None) -> dict[str, torch.Tensor]:
    """Convert a published checkpoint to our names.

    Args:
        state_dict: published names to tensors; or a file's content that contains them under ``model``, ``teacher`` or
            ``state_dict``, with names prefixed by ``module.`` or ``backbone.``.
        variant: a key of :data:`VARIANTS`. Those of ``MODEL_TABLES`` give whole models, ``"segearth"`` a whole one
            or, of its upsampler's file, only that; ``"dino"`` and ``"dinov3"`` encoders with timm's names (for stage
            1, too), ``"clip"`` one with open_clip's. None: detected from the names.

    Returns:
        Our names to tensors of unchanged type (float32 for an interpolated positional embedding). Shapes are not
        checked; loading them into a model does that.

    Raises:
        CheckpointError: a tensor is missing or left over (the message lists them), or cannot be split or resized; the
            checkpoint is of another model, or already has our names.
    """
    state_dict = unwrap_state_dict(state_dict)
    renames = find_renames(state_dict, variant)
    converted = {}
    for name, tensor in state_dict.items():
        rename = renames[name]
        if rename.derive is None:
            converted |= dict.fromkeys(rename.targets, tensor)
            continue
        try:
            # Copies, since parts of one tensor cannot be written to safetensors.
            parts = [part.clone() for part in rename.derive(tensor)]
            converted |= zip(rename.targets, parts, strict=True)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{name} has the shape {tuple(tensor.shape)}; it cannot be {rename.reason}."
            ) from error
    return converted


def detect_variant(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """The key of :data:`VARIANTS` to which the names of an unwrapped state dict are closest; None if none is close."""
    names = state_dict.keys()
    if any(OWN_NAMES.match(name) for name in names):
        return None
    if any(name.startswith("sem_seg_head.predictor.") for name in names):
        return min(MODEL_TABLES, key=lambda variant: len(names ^ _required(MODEL_TABLES[variant])))
    if any(name.startswith("upsampler.up.") for name in names):
        return "segearth"
    if any(name.startswith("blocks.0.attn.qkv.") for name in names):
        if names & {"storage_tokens", "rope_embed.periods"}:
            return "dinov3"
        later = {"reg_token", "register_tokens", "blocks.0.ls1.gamma", "blocks.0.gamma_1"}  # in timm and DINOv2
        return "dino" if names & {"cls_token", "pos_embed"} and not names & later else None
    if any(name.startswith("visual.transformer.") for name in names) and "token_embedding.weight" in names:
        return "clip"
    return None


def find_renames(state_dict: Mapping[str, torch.Tensor], variant: str | None = None) -> RenameTable:
    """The renames of all tensors of an unwrapped state dict.

    Raises:
        CheckpointError: see :func:`convert_official_state_dict`.
    """
    if variant is not None and variant not in VARIANTS:
        raise CheckpointError(f"There is no variant '{variant}' of published checkpoints; use {', '.join(VARIANTS)}.")
    if any(OWN_NAMES.match(name) for name in state_dict):
        raise CheckpointError("The checkpoint already has the names that mm_ovseg reads; use it as it is.")
    detected = detect_variant(state_dict)
    if detected is None:
        wanted = VARIANTS if variant is None else [variant]
        raise CheckpointError(
            f"The checkpoint is not of {' or '.join(VARIANTS[key].title for key in wanted)}: it holds "
            f"{', '.join(sorted(state_dict)[:3]) or 'no tensors'}{', …' if len(state_dict) > 3 else ''}."
        )
    table = _table_of(detected, state_dict)
    names = state_dict.keys()
    problems = describe_misfits(missing=_required(table) - names, unexpected=names - table.keys())
    title = VARIANTS[detected].title
    if variant not in (None, detected):
        likeness, advice = ("closest to", "") if problems else ("of", f"; convert it as '{detected}'")
        raise CheckpointError(f"The checkpoint is not of {VARIANTS[variant].title} but {likeness} {title}{advice}.")
    if problems:
        raise CheckpointError(
            f"The checkpoint is closest to {title}, but its tensors do not fit: {problems}. "
            "Check that the file is the published one, complete and unchanged."
        )
    return table


def _table_of(variant: str, names: Collection[str]) -> RenameTable:
    if variant == "segearth":
        return segearth_table(names)
    return MODEL_TABLES[variant] if variant in MODEL_TABLES else encoder_table(variant, names)


def _required(table: RenameTable) -> set[str]:
    return {name for name, rename in table.items() if rename.targets}
