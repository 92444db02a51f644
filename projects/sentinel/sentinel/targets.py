"""What the image encoders learn to meet: the projected embeddings of class names and captions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mm_ovseg.checkpoint.weights_file import load_weights_file
from sentinel.scenes import CLASS_NAMES
from sentinel.teacher import Teacher, project
from sentinel.text_steps import read_captions
from sentinel.words import PROMPTS, in_prompt

__all__ = ["Targets", "read_targets"]


@dataclass(frozen=True, eq=False)
class Targets:
    """Unit vectors of D dimensions.

    Attributes:
        classes: for each set of ``CLASS_NAMES``, those of its classes, (classes, D).
        captions: for each file of AID, those of its captions, (D,).
    """

    classes: list[torch.Tensor]
    captions: dict[str, list[torch.Tensor]]


def read_targets(source: Path, projection: Path, teacher: Teacher) -> Targets:
    """The embeddings of the scenes' classes and captions.

    Args:
        source: folder with ``aid_captions.csv``.
        projection: ``projection.safetensors`` of the text tower's training.
        teacher: texts -> (N, C) unit vectors.

    Returns:
        The embeddings; those of classes are averaged over the prompts.
    """
    weights = {name: value.numpy() for name, value in load_weights_file(projection).items()}

    def embed(texts: list[str]) -> torch.Tensor:
        return torch.from_numpy(project(teacher(texts), weights).astype(np.float32))

    classes = [
        F.normalize(
            torch.stack([embed([in_prompt(name, prompt) for prompt in PROMPTS]).mean(0) for name in names]), dim=1
        )
        for names in (list(of_set.values()) for of_set in CLASS_NAMES.values())
    ]
    captions = read_captions(source / "aid_captions.csv")
    embeddings = iter(embed([caption for texts in captions.values() for caption in texts]))
    return Targets(classes, {file: [next(embeddings) for _ in texts] for file, texts in captions.items()})
