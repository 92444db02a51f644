"""CLIP's image tower alone, whose weights may also be what stage 1 taught."""

from pathlib import Path

from open_clip.transformer import VisionTransformer

from mm_ovseg.checkpoint.encoder_weights import load_encoder_state_dict, read_student_file
from mm_ovseg.modeling.backbone.clip import build_clip

__all__ = ["build_clip_image_tower"]


def build_clip_image_tower(name: str, weights: str) -> VisionTransformer:
    """Build the image tower of :func:`~mm_ovseg.modeling.backbone.clip.build_clip`.

    Args:
        name: an architecture that open_clip knows.
        weights: as of ``build_clip``, or a checkpoint of stage 1 with a CLIP student (``CMU.ENCODER clip``), which has
            no text tower.

    Raises:
        ConfigError, CheckpointError: as of ``build_clip``.
    """
    is_file = weights.startswith("hf://") or Path(weights).is_file()
    student = read_student_file(weights) if is_file else None
    if student is None:
        return build_clip(name, weights)[0]
    visual = build_clip(name, "")[0]
    load_encoder_state_dict(visual, student, source=weights)
    return visual
