"""Weights of one encoder: from a plain state dict, from a stage-1 checkpoint of ours, or from DINO's own training."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.checkpoint.files import load_weights_file
from mm_ovseg.errors import CheckpointError

__all__ = ["find_encoder_state_dict", "load_encoder_file", "load_encoder_state_dict"]

logger = logging.getLogger(__name__)

# Where a file keeps its state dict, in the order in which they are looked for.
CONTAINER_KEYS = ("model", "teacher", "state_dict")
# Prefixes that training frameworks put before the names; "student.model." is ours, of stage 1.
PREFIXES = ("module.", "backbone.", "student.", "model.")
# Parts of pretrained files that an encoder without a classifier does not have.
UNUSED_PREFIXES = ("head.", "fc_norm.", "mask_token")


def find_encoder_state_dict(content: Mapping) -> dict[str, torch.Tensor]:
    """Find the encoder's tensors in what a weights file holds, with the prefixes of frameworks removed.

    A stage-1 checkpoint holds a teacher and a student: the student is taken.
    """
    for key in CONTAINER_KEYS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state_dict = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if any(key.startswith("student.") for key in state_dict):
        state_dict = {key: value for key, value in state_dict.items() if key.startswith("student.")}
    stripped = True
    while stripped and state_dict:
        stripped = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in state_dict):
                state_dict = {key.removeprefix(prefix): value for key, value in state_dict.items()}
                stripped = True
    return {key: value for key, value in state_dict.items() if not key.startswith(UNUSED_PREFIXES)}


def load_encoder_file(encoder: nn.Module, path: str | Path) -> None:
    """Load a weights file into an encoder; every parameter must be there, with its shape.

    A positional embedding of another grid is resized bicubically.

    Raises:
        CheckpointError: unreadable file, or weights of another architecture (the message lists what does not fit).
    """
    load_encoder_state_dict(encoder, find_encoder_state_dict(load_weights_file(path)), source=str(path))


def load_encoder_state_dict(encoder: nn.Module, state_dict: dict[str, torch.Tensor], *, source: str) -> None:
    """As :func:`load_encoder_file`, for tensors that were read already; ``source`` is what messages call them."""
    state_dict = dict(state_dict)
    expected = encoder.state_dict()
    position = state_dict.get("pos_embed")
    if position is not None and "pos_embed" in expected and position.shape != expected["pos_embed"].shape:
        resized = _resize_positional_embedding(position, expected["pos_embed"].shape)
        if resized is not None:
            logger.info("%s: positional embedding resized to %s tokens.", source, resized.shape[1])
            state_dict["pos_embed"] = resized

    missing = sorted(expected.keys() - state_dict.keys())
    unexpected = sorted(state_dict.keys() - expected.keys())
    reshaped = sorted(
        f"{key} is {tuple(state_dict[key].shape)}, not {tuple(expected[key].shape)}"
        for key in expected.keys() & state_dict.keys()
        if state_dict[key].shape != expected[key].shape
    )
    problems = [
        f"{len(names)} {label} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for label, names in (("missing", missing), ("left over", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source} holds weights of another architecture than the configured encoder: {'; '.join(problems)}. "
            "Give the weights that belong to this config, or the config that belongs to these weights."
        )
    encoder.load_state_dict(state_dict)
    logger.info("Loaded %d tensors from %s.", len(state_dict), source)


def _resize_positional_embedding(position: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Resize (1, 1 + n * n, D) to ``shape`` (1, 1 + m * m, D); None where the two cannot be that."""
    old, new = (int((count - 1) ** 0.5) for count in (position.shape[1], shape[1]))
    if position.shape[2] != shape[2] or 1 + old * old != position.shape[1] or 1 + new * new != shape[1]:
        return None
    grid = position[:, 1:].transpose(1, 2).unflatten(2, (old, old))  # (1, D, n, n)
    grid = F.interpolate(grid.float(), (new, new), mode="bicubic", align_corners=False)
    return torch.cat([position[:, :1].float(), grid.flatten(2).transpose(1, 2)], dim=1)
