"""Text embeddings in a file, so that an exported model can use them without PyTorch."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mm_ovseg.checkpoint.weights_file import write_weights_file
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import complete_file
from mm_ovseg.modeling.text import TextEmbedder

__all__ = ["TEXT_SUFFIXES", "check_text_suffix", "write_text_file"]

TEXT_SUFFIXES = (".npy", ".safetensors")
TENSOR_NAME = "text_embeddings"


def check_text_suffix(path: Path) -> None:
    """Check the suffix of a file name.

    Raises:
        ConfigError: it is neither .npy nor .safetensors.
    """
    if path.suffix not in TEXT_SUFFIXES:
        raise ConfigError(f"{path} has an unknown suffix; use {' or '.join(TEXT_SUFFIXES)}.")


@torch.no_grad()
def write_text_file(path: Path, text: TextEmbedder, names: Sequence[str]) -> tuple[int, ...]:
    """Embed class names and write the embeddings.

    Args:
        path: ``.npy`` holds the array alone; ``.safetensors`` holds it as ``text_embeddings``, with the names and
            templates as JSON lists in the metadata ``classes`` and ``templates``.
        text: the model's text encoder, in evaluation mode.
        names: T class names.

    Returns:
        The shape (P, T, C) of the embeddings: float32, L2-normalised, for P templates.

    Raises:
        ConfigError: the suffix is unknown.
        DataError: the file cannot be written.
    """
    check_text_suffix(path)
    embeddings = text(names).cpu()
    if path.suffix == ".npy":
        with complete_file(path) as temporary:
            np.save(temporary, embeddings.numpy())
    else:
        origin = {
            "classes": json.dumps(list(names), ensure_ascii=False),
            "templates": json.dumps(list(text.templates), ensure_ascii=False),
        }
        write_weights_file(path, {TENSOR_NAME: embeddings}, origin)
    return tuple(embeddings.shape)
