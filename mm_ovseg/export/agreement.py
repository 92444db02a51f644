"""Checking that an exported file gives the same results as the model in PyTorch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from mm_ovseg.errors import ExportError
from mm_ovseg.export.graph import SegmentationGraph

__all__ = ["Agreement", "check_agreement"]

MAX_RELATIVE_DIFFERENCE = 1e-4  # of the logits; different kernels and summation orders give about 1e-6
CHECKED_CLASSES = 20  # more than in the traced example, and more than the padding of the small models


@dataclass(frozen=True)
class Agreement:
    """The difference between a file and PyTorch for one input.

    Attributes:
        batch, height, width, classes: sizes of the input.
        scores: maximum absolute difference of the scores, 0..1.
        logits: maximum absolute difference of the logits.
        relative: norm of the logits' difference over the norm of the logits.
    """

    batch: int
    height: int
    width: int
    classes: int
    scores: float
    logits: float
    relative: float

    def __str__(self) -> str:
        return (
            f"{self.batch} x {self.height} x {self.width} pixels, {self.classes} classes: maximum difference "
            f"{self.scores:.1e} of the scores, {self.logits:.1e} of the logits ({self.relative:.1e} relative)"
        )


@torch.no_grad()
def check_agreement(
    graph: SegmentationGraph, run: Callable[[Mapping[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]
) -> list[Agreement]:
    """Compare a file with PyTorch on noise: one pair of the encoders' size, and two pairs of another size.

    Args:
        graph: the model in PyTorch.
        run: returns the scores and logits of the file for named inputs.

    Returns:
        The differences for both inputs.

    Raises:
        ExportError: they exceed rounding errors.
    """
    size = graph.sizes.image
    max_classes = graph.sizes.classes or CHECKED_CLASSES
    agreements = []
    for seed, (batch, height, width, classes) in enumerate(
        ((1, size, size, min(2, max_classes)), (2, size // 2 + 3, size + 5, min(CHECKED_CLASSES, max_classes))), start=1
    ):
        inputs = graph.random_inputs(batch=batch, height=height, width=width, classes=classes, seed=seed)
        scores, logits = graph(**inputs)
        file_scores, file_logits = run({name: tensor for name, tensor in inputs.items() if tensor is not None})
        agreements.append(
            Agreement(
                batch=batch,
                height=height,
                width=width,
                classes=classes,
                scores=float((file_scores - scores).abs().max()),
                logits=float((file_logits - logits).abs().max()),
                relative=float((file_logits - logits).norm() / logits.norm()),
            )
        )
    if not all(agreement.relative <= MAX_RELATIVE_DIFFERENCE for agreement in agreements):  # false for NaN
        raise ExportError(
            "The exported file gives different results than PyTorch "
            f"({'; '.join(str(agreement) for agreement in agreements)}); the file was deleted. Try the package "
            "versions of constraints.txt."
        )
    return agreements
