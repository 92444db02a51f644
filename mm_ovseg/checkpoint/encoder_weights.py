"""Weights of one encoder: from a plain state dict, from a stage-1 checkpoint of ours, or as published."""

import logging
from pathlib import Path

import torch
from torch import nn

from mm_ovseg.checkpoint.files import load_weights_file
from mm_ovseg.checkpoint.official import convert_official_state_dict, detect_variant
from mm_ovseg.checkpoint.positional_embedding import resize_positional_embedding
from mm_ovseg.checkpoint.state_dict import TRAINING_HEADS, describe_misfits, unwrap_state_dict
from mm_ovseg.errors import CheckpointError

__all__ = ["load_encoder_file", "load_encoder_state_dict", "read_encoder_file"]

logger = logging.getLogger(__name__)

# Parts of pretrained files that an encoder without a classifier does not have.
UNUSED_PREFIXES = (*TRAINING_HEADS, "fc_norm.", "mask_token")
STUDENT = "student.model."  # before the names of what a checkpoint of our stage 1 has taught


def read_encoder_file(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a weights file of an encoder into the names of timm or open_clip.

    Args:
        path: a local file, or ``hf://organisation/repository/file``; as published (DINO v1, DINOv3, OpenAI's CLIP), of
            timm or open_clip, or a checkpoint of stage 1, whose student is taken.

    Raises:
        CheckpointError: the file cannot be read, or is a published one that is not whole.
    """
    state_dict = unwrap_state_dict(load_weights_file(path))
    if any(key.startswith(STUDENT) for key in state_dict):
        state_dict = {key.removeprefix(STUDENT): value for key, value in state_dict.items() if key.startswith(STUDENT)}
    variant = detect_variant(state_dict)
    # The names of DINO v1 are timm's own.
    if variant in ("dinov3", "clip"):
        try:
            return convert_official_state_dict(state_dict, variant)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
    return {key: value for key, value in state_dict.items() if not key.startswith(UNUSED_PREFIXES)}


def load_encoder_file(encoder: nn.Module, path: str | Path) -> None:
    """Load a weights file (:func:`read_encoder_file`) into an encoder; every parameter must be there, with its shape.

    A positional embedding of another grid is resized bicubically.

    Raises:
        CheckpointError: unreadable file, or weights of another architecture (the message lists what does not fit).
    """
    load_encoder_state_dict(encoder, read_encoder_file(path), source=str(path))


def load_encoder_state_dict(encoder: nn.Module, state_dict: dict[str, torch.Tensor], *, source: str) -> None:
    """As :func:`load_encoder_file`, for tensors that were read already; ``source`` is what messages call them."""
    state_dict = dict(state_dict)
    expected = encoder.state_dict()
    position = state_dict.get("pos_embed")
    if position is not None and "pos_embed" in expected and position.shape != expected["pos_embed"].shape:
        stored, grid_size = (_grid_size(tensor) for tensor in (position, expected["pos_embed"]))
        if stored and grid_size:
            state_dict["pos_embed"] = resize_positional_embedding(position, grid_size)
            logger.info("%s: positional embedding resized from %d to %d tokens a side.", source, stored, grid_size)

    problems = describe_misfits(
        missing=expected.keys() - state_dict.keys(),
        unexpected=state_dict.keys() - expected.keys(),
        reshaped=(
            f"{key} is {tuple(state_dict[key].shape)}, not {tuple(expected[key].shape)}"
            for key in expected.keys() & state_dict.keys()
            if state_dict[key].shape != expected[key].shape
        ),
    )
    if problems:
        raise CheckpointError(
            f"{source} holds weights of another architecture than the configured encoder: {problems}. "
            "Give the weights that belong to this config, or the config that belongs to these weights."
        )
    encoder.load_state_dict(state_dict)
    logger.info("Loaded %d tensors from %s.", len(state_dict), source)


def _grid_size(position: torch.Tensor) -> int | None:
    """The side n of a positional embedding (1, 1 + n * n, D); None where it is not that."""
    if position.dim() != 3:
        return None
    side = round((position.shape[1] - 1) ** 0.5)
    return side if side and 1 + side * side == position.shape[1] else None
