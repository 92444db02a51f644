"""Image encoders, wrapped from open_clip and timm."""

from mm_ovseg.modeling.backbone.clip import CLIPImageEncoder
from mm_ovseg.modeling.backbone.dino import DINOEncoder

__all__ = ["CLIPImageEncoder", "DINOEncoder"]
