"""State dicts as frameworks wrap them, and what to say of those that do not fit."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

__all__ = ["TRAINING_HEADS", "describe_misfits", "unwrap_state_dict"]

# Where a file keeps its state dict, in the order in which they are looked for.
CONTAINER_KEYS = ("model", "teacher", "state_dict")
# Prefixes that training frameworks put before the names.
PREFIXES = ("module.", "backbone.", "model.")
# Heads that self-supervised training puts beside the encoder, and then throws away.
TRAINING_HEADS = ("head.", "dino_head.", "ibot_head.")
MOST_KEYS_LISTED = 20


def unwrap_state_dict(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Find the tensors in what a weights file holds, with the prefixes of frameworks removed."""
    for key in CONTAINER_KEYS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state_dict = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            wrapped = [key.startswith(prefix) for key in state_dict if not key.startswith(TRAINING_HEADS)]
            if wrapped and all(wrapped):
                state_dict = {key.removeprefix(prefix): value for key, value in state_dict.items()}
                stripped = True
    return state_dict


def describe_misfits(missing: Iterable[str] = (), unexpected: Iterable[str] = (), reshaped: Iterable[str] = ()) -> str:
    """Say what does not fit: ``"1 missing (bias); 2 left over (scale, shift)"``; "" where nothing is wrong."""
    groups = {"missing": sorted(missing), "left over": sorted(unexpected), "of another shape": sorted(reshaped)}
    return "; ".join(
        f"{len(keys)} {label} ({', '.join(keys[:MOST_KEYS_LISTED])}{', …' if len(keys) > MOST_KEYS_LISTED else ''})"
        for label, keys in groups.items()
        if keys
    )
