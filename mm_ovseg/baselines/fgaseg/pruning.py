"""Dropping classes that are nowhere among the best of an image."""

import torch

__all__ = ["surviving_classes"]


def surviving_classes(logits: torch.Tensor, count: int) -> torch.Tensor:
    """The classes that are among the ``count`` highest at some place of an image.

    Args:
        logits: (1, T, h, w), of one image: what survives must not depend on others in the batch.
        count: of classes that each place keeps, at most T.

    Returns:
        Their indices, ascending.
    """
    best = logits.topk(count, dim=1).indices  # (1, count, h, w)
    survives = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    return _indices(survives.scatter(0, best.flatten(), True))


def _indices(mask: torch.Tensor) -> torch.Tensor:
    # How many there are is the shape of all that follows, so Python waits for the device here.
    return mask.nonzero()[:, 0]
