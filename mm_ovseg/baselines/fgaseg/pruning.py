"""Dropping classes that are nowhere among the best of an image."""

import torch

from mm_ovseg.modeling.class_selection import restore_classes

__all__ = ["Candidates", "surviving_classes"]


class Candidates:
    """The classes that are left in the course of decoding, and what the auxiliary heads say of them.

    Args:
        classes: T, in the beginning.
        keep: at each place, the number of best classes; those that are nowhere among them leave. 0: none leaves.

    Attributes:
        logits: of each auxiliary head so far.
    """

    def __init__(self, classes: int, keep: int) -> None:
        self.logits: list[torch.Tensor] = []
        self._classes = classes
        self._keep = keep
        self._indices: torch.Tensor | None = None

    def narrow(self, logits: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Let classes leave by the logits (B, t, h, w) of an auxiliary head; what is left of tensors (B, t, ...)."""
        self.logits.append(logits)
        if not 0 < self._keep < logits.shape[1]:
            return tensors
        places = surviving_classes(logits, self._keep)
        self._indices = places if self._indices is None else self._indices[places]
        return tuple(tensor[:, places] for tensor in tensors)

    def restore(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, h, w) from those (B, t, h, w) of the classes that are left; the others get -100."""
        if self._indices is None:
            return logits
        return restore_classes(logits, self._indices[None], self._classes)


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
