"""State dicts as frameworks wrap them, and what to say of those that do not fit."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from mm_ovseg.errors import CheckpointError

__all__ = ["TRAINING_HEADS", "describe_misfits", "find_container", "unwrap_state_dict"]

# Where a file keeps its state dict, in the order in which they are looked for.
CONTAINER_KEYS = ("model", "teacher", "state_dict")
# Prefixes that training frameworks put before the names.
PREFIXES = ("module.", "backbone.", "model.")
# Heads that self-supervised training puts beside the encoder, and then throws away.
TRAINING_HEADS = ("head.", "dino_head.", "ibot_head.")
MOST_KEYS_LISTED = 20


def find_container(content: Mapping[str, Any]) -> str | None:
    """The key under which a file keeps its state dict; None where it is one."""
    return next((key for key in CONTAINER_KEYS if isinstance(content.get(key), Mapping)), None)


def unwrap_state_dict(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Find the tensors in what a weights file holds, with the prefixes of frameworks removed.

    Beside tensors without a container there may be other things (an epoch, settings); in a container there may not.

    Raises:
        CheckpointError: a name is no text, an entry of a container is no tensor, or a tensor is no plain array of
            numbers (it is sparse, complex, quantised or without data).
    """
    container = find_container(content)
    entries = content if container is None else content[container]
    if odd := [name for name in entries if not isinstance(name, str)]:
        raise CheckpointError(f"The checkpoint has the name {odd[0]!r}, which is no text; it is no state dict.")
    state_dict = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
    if container is not None and (odd := sorted(entries.keys() - state_dict.keys())):
        raise CheckpointError(
            f"'{container}' of the checkpoint holds other things than tensors: {describe_misfits(unexpected=odd)}."
        )
    if odd := [name for name, tensor in state_dict.items() if not _is_plain(tensor)]:
        raise CheckpointError(
            f"{', '.join(odd[:MOST_KEYS_LISTED])} of the checkpoint is no plain array of real numbers."
        )
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            wrapped = [name.startswith(prefix) for name in state_dict if not name.startswith(TRAINING_HEADS)]
            if wrapped and all(wrapped):
                state_dict = {name.removeprefix(prefix): value for name, value in state_dict.items()}
                stripped = True
    return state_dict


def describe_misfits(
    missing: Iterable[str] = (),
    unexpected: Iterable[str] = (),
    reshaped: Iterable[tuple[str, Sequence[int], Sequence[int]]] = (),
) -> str:
    """Say what does not fit: ``"1 missing (bias); 2 left over (scale, shift)"``; "" where nothing is wrong.

    Args:
        missing: names that a state dict lacks.
        unexpected: names that nothing takes.
        reshaped: names with the shape that they have and the one that they should have.
    """
    groups = {
        "missing": sorted(missing),
        "left over": sorted(unexpected),
        "of another shape": sorted(f"{name} is {tuple(has)}, not {tuple(should)}" for name, has, should in reshaped),
    }
    return "; ".join(
        f"{len(names)} {label} ({', '.join(names[:MOST_KEYS_LISTED])}{', …' if len(names) > MOST_KEYS_LISTED else ''})"
        for label, names in groups.items()
        if names
    )


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not (tensor.is_complex() or tensor.is_quantized or tensor.is_meta)
