"""Weights of a single encoder: as published, with timm's or open_clip's names, or from a stage-1 checkpoint."""

import logging
from pathlib import Path

import torch
from torch import nn

from mm_ovseg.checkpoint.official import VARIANTS, convert_official_state_dict, detect_variant
from mm_ovseg.checkpoint.positional_embedding import grid_size_of, resize_positional_embedding
from mm_ovseg.checkpoint.rename_tables import ENCODERS
from mm_ovseg.checkpoint.state_dict import TRAINING_HEADS, describe_misfits, unwrap_state_dict
from mm_ovseg.checkpoint.weights_file import load_weights_file
from mm_ovseg.errors import CheckpointError

__all__ = ["load_encoder_file", "load_encoder_state_dict", "read_encoder_file", "read_student_file"]

logger = logging.getLogger(__name__)

# Parts of pretrained files that an encoder without a classifier does not have.
UNUSED_PREFIXES = (*TRAINING_HEADS, "fc_norm.", "mask_token")
# Prefixes of the trained encoder, DINO or CLIP, in stage-1 checkpoints; its moving average (CMU.EMA_DECAY) first.
STUDENTS = ("student_average.module.model.", "student_average.module.visual.", "student.model.", "student.visual.")


def read_encoder_file(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a weights file of an encoder, with timm's or open_clip's names.

    Args:
        path: a local file, or ``hf://organisation/repository/file``; as published (DINO v1, DINOv3, OpenAI's CLIP), of
            timm or open_clip, or a stage-1 checkpoint, whose student is used.

    Raises:
        CheckpointError: the file cannot be read, is a published one with missing tensors, or contains a whole model.
    """
    student, state_dict = _read(path)
    if student is not None:
        return student
    variant = detect_variant(state_dict)
    if variant in ("dinov3", "clip"):  # DINO v1 already has timm's names
        try:
            return convert_official_state_dict(state_dict, variant)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
    if variant not in (None, *ENCODERS):
        published = VARIANTS[variant]
        raise CheckpointError(f"{path} holds {published.title}, a whole model; give it as {published.use}.")
    return {name: value for name, value in state_dict.items() if not name.startswith(UNUSED_PREFIXES)}


def read_student_file(path: str | Path) -> dict[str, torch.Tensor] | None:
    """Read the student of a stage-1 checkpoint, with the encoder's names; None for any other file.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return _read(path)[0]


def _read(path: str | Path) -> tuple[dict[str, torch.Tensor] | None, dict[str, torch.Tensor]]:
    """The student in a file, if any, and all tensors of the file."""
    content = load_weights_file(path)
    try:
        state_dict = unwrap_state_dict(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for prefix in STUDENTS:
        student = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
        if student:
            return student, state_dict
    return None, state_dict


def load_encoder_file(encoder: nn.Module, path: str | Path) -> None:
    """Load a weights file (:func:`read_encoder_file`) into an encoder; all parameters must be there, in their shapes.

    A positional embedding of another grid is resized bicubically.

    Raises:
        CheckpointError: the file is unreadable, or has weights of another architecture (the message lists the misfits).
    """
    load_encoder_state_dict(encoder, read_encoder_file(path), source=str(path))


def load_encoder_state_dict(encoder: nn.Module, state_dict: dict[str, torch.Tensor], *, source: str) -> None:
    """Like :func:`load_encoder_file`, for tensors that have been read; messages call them ``source``."""
    state_dict = dict(state_dict)
    expected = encoder.state_dict()
    if "pos_embed" in expected and "pos_embed" in state_dict:
        position, grid_size = state_dict["pos_embed"], grid_size_of(expected["pos_embed"])
        stored = grid_size_of(position)
        if stored and grid_size and stored != grid_size:
            state_dict["pos_embed"] = resize_positional_embedding(position, grid_size)
            logger.info("%s: positional embedding resized from %d to %d tokens per side.", source, stored, grid_size)

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
