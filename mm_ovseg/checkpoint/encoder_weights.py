"""Weights of one encoder: from a plain state dict, from a stage-1 checkpoint of ours, or as published."""

import logging
from pathlib import Path

import torch
from torch import nn

from mm_ovseg.checkpoint.files import load_weights_file
from mm_ovseg.checkpoint.official import VARIANTS, convert_official_state_dict, detect_variant
from mm_ovseg.checkpoint.positional_embedding import resize_positional_embedding
from mm_ovseg.checkpoint.state_dict import TRAINING_HEADS, describe_misfits, unwrap_state_dict
from mm_ovseg.errors import CheckpointError

__all__ = ["load_encoder_file", "load_encoder_state_dict", "read_encoder_file", "read_student_file"]

logger = logging.getLogger(__name__)

# Parts of pretrained files that an encoder without a classifier does not have.
UNUSED_PREFIXES = (*TRAINING_HEADS, "fc_norm.", "mask_token")
# Before the names of what a checkpoint of our stage 1 has taught, of DINO and of CLIP. Where there is a moving average
# (CMU.EMA_DECAY), that is the student to take.
STUDENTS = ("student_average.module.model.", "student_average.module.visual.", "student.model.", "student.visual.")


def read_encoder_file(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a weights file of an encoder into the names of timm or open_clip.

    Args:
        path: a local file, or ``hf://organisation/repository/file``; as published (DINO v1, DINOv3, OpenAI's CLIP), of
            timm or open_clip, or a checkpoint of stage 1, whose student is taken.

    Raises:
        CheckpointError: the file cannot be read, or is a published one that is not whole.
    """
    try:
        state_dict = unwrap_state_dict(load_weights_file(path))
        student = _student(state_dict)
        if student is not None:
            return student
        variant = detect_variant(state_dict)
        if variant in ("dinov3", "clip"):  # the names of DINO v1 are timm's own
            return convert_official_state_dict(state_dict, variant)
    except CheckpointError as error:
        raise _naming(path, error) from error
    if variant is not None and VARIANTS[variant].size is not None:
        published = VARIANTS[variant]
        raise CheckpointError(f"{path} holds {published.title}, a whole model; give it as {published.use}.")
    return {name: value for name, value in state_dict.items() if not name.startswith(UNUSED_PREFIXES)}


def read_student_file(path: str | Path) -> dict[str, torch.Tensor] | None:
    """Read what a checkpoint of stage 1 has taught, in the encoder's names; None where the file is another one.

    Args:
        path: as of :func:`read_encoder_file`.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        return _student(unwrap_state_dict(load_weights_file(path)))
    except CheckpointError as error:
        raise _naming(path, error) from error


def _naming(path: str | Path, error: CheckpointError) -> CheckpointError:
    return CheckpointError(error if str(path) in str(error) else f"{path}: {error}")


def _student(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    for prefix in STUDENTS:
        student = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
        if student:
            return student
    return None


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
        reshaped=[
            (name, state_dict[name].shape, expected[name].shape)
            for name in expected.keys() & state_dict.keys()
            if state_dict[name].shape != expected[name].shape
        ],
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
