"""Reading weights from untrusted files: tensors and plain containers only."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mm_ovseg.errors import CheckpointError

__all__ = ["load_weights_file"]


def load_weights_file(path: str | Path) -> dict[str, Any]:
    """Read a ``.safetensors`` or a ``torch.save`` file onto the CPU.

    Args:
        path: a local file. A pickle that holds anything but tensors and plain containers is refused.

    Returns:
        What the file holds: a state dict, or a dict with state dicts in it.

    Raises:
        CheckpointError: the file is missing, truncated, not a weights file, or holds other objects than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"The weights file {path} does not exist; check the path.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no weights make the unpickler fail in any way
        raise CheckpointError(
            f"{path} is not a readable weights file ({type(error).__name__}); it may be truncated, or hold Python "
            "objects other than tensors, which are refused for safety."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content
