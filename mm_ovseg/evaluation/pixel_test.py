"""What the evaluator of semantic segmentation tests besides the plain map."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

__all__ = ["PixelTest"]


class PixelTest(Protocol):
    """A test that counts pixels, in integers: their sums do not depend on the number of processes.

    Attributes:
        name: of its results, and of the scores that it needs in a model's output.
        vocabularies: the names that the model is to be asked for besides the dataset's, one vocabulary after another.
        counts: an int64 array.
    """

    name: str
    vocabularies: Sequence[Sequence[str]]
    counts: np.ndarray

    def add(self, label: np.ndarray, counted: np.ndarray, output: Mapping[str, torch.Tensor]) -> None:
        """Count the pixels of one image.

        Args:
            label: (H, W) class indices.
            counted: bool (H, W), False where the label is ignored.
            output: ``sem_seg``, the scores (T, H, W) of the dataset's names; and under :attr:`name` those of
                :attr:`vocabularies`, (all their names, H, W).
        """

    def results(self, counts: np.ndarray) -> dict[str, float]:
        """The scores of summed counts, in percent; nan where one is undefined."""
