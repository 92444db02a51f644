"""Finding the state dict in a file's content, and describing misfits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from mm_ovseg.errors import CheckpointError

__all__ = ["TRAINING_HEADS", "describe_misfits", "find_container", "unwrap_state_dict"]

CONTAINER_KEYS = ("model", "teacher", "state_dict")  # in the order of search
PREFIXES = ("module.", "backbone.", "model.")  # added by training frameworks
TRAINING_HEADS = ("head.", "dino_head.", "ibot_head.")  # of self-supervised training, not part of the encoder
MAX_NAMES_LISTED = 20


def find_container(content: Mapping[str, Any]) -> str | None:
    """The key of the state dict in a file's content; None if the content is the state dict itself."""
    return next((key for key in CONTAINER_KEYS if isinstance(content.get(key), Mapping)), None)


def unwrap_state_dict(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Find the tensors in the content of a weights file, and remove prefixes of frameworks from their names.

    Without a container, values that are not tensors (an epoch, settings) are ignored; in a container they are an
    error.

    Raises:
        CheckpointError: a name is not a string, a container has values other than tensors, or a tensor is sparse,
            complex, quantised or without data.
    """
    container = find_container(content)
    entries = content if container is None else content[container]
    if odd := [name for name in entries if not isinstance(name, str)]:
        raise CheckpointError(f"The checkpoint is not a state dict: its key {odd[0]!r} is not a string.")
    state_dict = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
    if container is not None and (odd := entries.keys() - state_dict.keys()):
        raise CheckpointError(f"'{container}' of the checkpoint holds values that are not tensors: {_listed(odd)}.")
    if odd := [
        name
        for name, tensor in state_dict.items()
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized or tensor.is_meta
    ]:
        raise CheckpointError(f"The checkpoint holds tensors that are not dense and real-valued: {_listed(odd)}.")
    while prefix := _common_prefix(name for name in state_dict if not name.startswith(TRAINING_HEADS)):
        state_dict = {name.removeprefix(prefix): value for name, value in state_dict.items()}
    return state_dict


def describe_misfits(
    missing: Iterable[str] = (),
    unexpected: Iterable[str] = (),
    reshaped: Iterable[tuple[str, Sequence[int], Sequence[int]]] = (),
) -> str:
    """Describe missing and unused names, such as ``"1 missing (bias); 2 left over (scale, shift)"``; "" without any.

    ``reshaped`` are names, each with its shape and the expected one.
    """
    groups = {
        "missing": set(missing),
        "left over": set(unexpected),
        "of another shape": {f"{name} is {tuple(has)}, not {tuple(should)}" for name, has, should in reshaped},
    }
    return "; ".join(f"{len(names)} {label} ({_listed(names)})" for label, names in groups.items() if names)


def _common_prefix(names: Iterable[str]) -> str | None:
    prefixes = {next((prefix for prefix in PREFIXES if name.startswith(prefix)), None) for name in names}
    return prefixes.pop() if len(prefixes) == 1 else None


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:MAX_NAMES_LISTED]) + (", …" if len(names) > MAX_NAMES_LISTED else "")
