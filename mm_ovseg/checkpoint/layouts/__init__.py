"""What the released files hold: every tensor's name and shape, and where it belongs in our models."""

from mm_ovseg.checkpoint.layouts.encoders import ClipSize, VitSize, clip_layout, dino_layout, dinov3_layout
from mm_ovseg.checkpoint.layouts.entry import Entry, Layout
from mm_ovseg.checkpoint.layouts.model import ModelSize, model_layout

__all__ = [
    "ClipSize",
    "Entry",
    "Layout",
    "ModelSize",
    "VitSize",
    "clip_layout",
    "dino_layout",
    "dinov3_layout",
    "model_layout",
]
