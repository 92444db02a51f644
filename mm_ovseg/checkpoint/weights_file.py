"""Safely reading weights from untrusted files, and writing them."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mm_ovseg.errors import CheckpointError, DataError, UnreadableWeightsError, brief_reason
from mm_ovseg.files import complete_file
from mm_ovseg.shipped import shipped_path

__all__ = [
    "SHIPPED_WEIGHTS",
    "check_weights_suffix",
    "complete_weights_file",
    "load_weights_file",
    "local_weights_path",
    "write_weights_file",
]

# The small models that come with the package: demo/assets/README.md.
SHIPPED_WEIGHTS = {
    "quickstart://": shipped_path("demo/assets/quickstart.safetensors"),
    "sentinel://": shipped_path("demo/assets/sentinel.safetensors"),
}
HUB_NAME = re.compile(r"hf://(?P<repo_id>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<filename>.+)")


def local_weights_path(name: str | Path) -> Path:
    """The local path of a weights file; a file on the Hugging Face hub is downloaded once and cached.

    Args:
        name: a local path; ``hf://organisation/repository/file``, where ``@revision`` may follow the repository; or
            ``quickstart://`` or ``sentinel://``, the small models that come with the package.

    Raises:
        CheckpointError: the local file does not exist (an UnreadableWeightsError), or the file on the hub cannot be
            downloaded.
    """
    if str(name) in SHIPPED_WEIGHTS:
        return SHIPPED_WEIGHTS[str(name)]
    if not str(name).startswith("hf://"):
        if not os.path.isfile(name):
            problem = "is a folder" if os.path.isdir(name) else "does not exist"
            raise UnreadableWeightsError(
                f"The weights file {name} {problem}; give a local file, or hf://organisation/repository/file."
            )
        return Path(name)
    parts = HUB_NAME.fullmatch(str(name))
    if parts is None:
        raise CheckpointError(f"{name} is not the name of a file on the hub; write hf://organisation/repository/file.")
    try:
        return Path(hf_hub_download(**parts.groupdict()))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name} cannot be downloaded ({brief_reason(error)}); check the name and the connection, or "
            "download the file elsewhere and give its path."
        ) from error


def load_weights_file(path: str | Path) -> dict[str, Any]:
    """Read a ``.safetensors`` or a ``torch.save`` file onto the CPU.

    Args:
        path: see :func:`local_weights_path`. A pickle with anything but tensors and plain containers is refused.

    Returns:
        The file's content: a state dict, or a dict that contains state dicts.

    Raises:
        CheckpointError: the file is missing, truncated, not a weights file, or contains objects other than tensors (an
            UnreadableWeightsError), or its content is not a dict.
    """
    local = local_weights_path(path)
    try:
        if local.suffix == ".safetensors":
            return load_file(local)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TorchScript archive")  # the error below says so
            content = torch.load(local, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UnreadableWeightsError(f"{path} cannot be read ({error.strerror or error}); check the file.") from error
    except Exception as error:  # the unpickler can fail in any way on bytes that are not weights
        raise UnreadableWeightsError(f"{path} {_why_unreadable(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content


def check_weights_suffix(path: Path) -> None:
    """Check that a weights file to write has a suffix of a known format.

    Raises:
        CheckpointError: it is neither .safetensors nor .pth.
    """
    if path.suffix not in (".safetensors", ".pth"):
        raise CheckpointError(f"{path} has no suffix of a known format; use .safetensors or .pth.")


def write_weights_file(path: Path, state_dict: Mapping[str, torch.Tensor], origin: Mapping[str, str]) -> None:
    """Write tensors and their origin, as safetensors or in Detectron2's format.

    Args:
        path: ends in .safetensors or .pth.
        state_dict: the tensors.
        origin: where they come from; stored as metadata of a safetensors file, or as "origin" beside "model".

    Raises:
        CheckpointError: the name has another suffix.
        DataError: the file cannot be written.
    """
    check_weights_suffix(path)
    with complete_weights_file(path) as temporary:
        if path.suffix == ".safetensors":
            # Copies, since safetensors refuses tensors that share memory.
            tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state_dict.items()}
            save_file(tensors, temporary, metadata={"format": "pt", **origin})
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # safetensors makes its files readable only by their owner
        else:
            torch.save({"model": dict(state_dict), "origin": dict(origin)}, temporary)


@contextmanager
def complete_weights_file(path: Path) -> Iterator[Path]:
    """Like :func:`mm_ovseg.files.complete_file`, for a file that torch or safetensors writes.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with complete_file(path) as temporary:
            yield temporary
    except (RuntimeError, SafetensorError) as error:  # how torch and safetensors report a full disk
        raise DataError(
            f"{path} cannot be written ({brief_reason(error)}); check the free space, or choose another folder."
        ) from error


def _why_unreadable(error: Exception) -> str:
    if "TorchScript" in str(error):
        return (
            "is a TorchScript archive, which is a program (OpenAI published CLIP as one). If you trust it, save its "
            "tensors once: torch.save(torch.jit.load(path, 'cpu').state_dict(), 'weights.pth')."
        )
    if match := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"holds Python objects other than tensors ({match[1]}), which are refused for safety. If you trust it, "
            "save its tensors once: torch.save(torch.load(path, weights_only=False)['model'], 'weights.pth'), with "
            "['state_dict'] for Lightning's."
        )
    return f"is not a readable weights file ({type(error).__name__}); it may be truncated, or of another format."
