"""Reading weights from untrusted files: tensors and plain containers only."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

from mm_ovseg.errors import CheckpointError, brief_reason

__all__ = ["load_weights_file", "local_weights_path"]

HUB_NAME = re.compile(r"hf://(?P<repo_id>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<filename>.+)")


def local_weights_path(name: str | Path) -> Path:
    """Where a weights file is on this machine; one of the Hugging Face hub is fetched once and kept in its cache.

    Args:
        name: a local path, or ``hf://organisation/repository/file``; ``@revision`` may follow the repository.

    Raises:
        CheckpointError: the local file does not exist, or that of the hub cannot be fetched.
    """
    if not str(name).startswith("hf://"):
        if not os.path.isfile(name):
            problem = "is a folder" if os.path.isdir(name) else "does not exist"
            raise CheckpointError(
                f"The weights file {name} {problem}; give a local file, or hf://organisation/repository/file."
            )
        return Path(name)
    parts = HUB_NAME.fullmatch(str(name))
    if parts is None:
        raise CheckpointError(f"{name} is no name of a file on the hub; write hf://organisation/repository/file.")
    try:
        return Path(hf_hub_download(**parts.groupdict()))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name} cannot be fetched ({brief_reason(error)}); check the name and the connection, or fetch "
            "the file elsewhere and give its path."
        ) from error


def load_weights_file(path: str | Path) -> dict[str, Any]:
    """Read a ``.safetensors`` or a ``torch.save`` file onto the CPU.

    Args:
        path: see :func:`local_weights_path`. A pickle with anything but tensors and plain containers is refused.

    Returns:
        What the file holds: a state dict, or a dict with state dicts in it.

    Raises:
        CheckpointError: the file is missing, truncated, not a weights file, or holds other objects than tensors.
    """
    local = local_weights_path(path)
    try:
        if local.suffix == ".safetensors":
            return load_file(local)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TorchScript archive")  # the error below says it
            content = torch.load(local, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); check the file.") from error
    except Exception as error:  # bytes that are no weights make the unpickler fail in any way
        raise CheckpointError(f"{path} {_why_unreadable(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content


def _why_unreadable(error: Exception) -> str:
    if "TorchScript" in str(error):
        return (
            "is a TorchScript archive, a program and not only weights (OpenAI published CLIP so). Save its tensors "
            "once, where you trust it: torch.save(torch.jit.load(path, 'cpu').state_dict(), 'weights.pth')."
        )
    if stranger := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"holds Python objects other than tensors ({stranger[1]}), which are refused for safety. Where you trust "
            "it, save its tensors once: torch.save(torch.load(path, weights_only=False)['model'], 'weights.pth')."
        )
    return f"is not a readable weights file ({type(error).__name__}); it may be truncated, or something else."
