"""A text tower without its CLIP."""

from collections.abc import Callable

import open_clip
from open_clip.model import _build_text_tower
from torch import nn

from mm_ovseg.modeling.backbone.tokenizer import build_tokenizer

__all__ = ["build_text_tower"]


def build_text_tower(name: str) -> tuple[nn.Module, Callable]:
    """The text tower, token ids (N, L) -> (N, C), and the tokenizer of open_clip's model config ``name``."""
    config = open_clip.get_model_config(name)
    return _build_text_tower(config["embed_dim"], config["text_cfg"], config.get("quick_gelu", False)), build_tokenizer(
        name
    )
