"""Blending the scores of overlapping windows into strips of a scene, a row of windows at a time."""

from dataclasses import dataclass

import torch

from mm_ovseg.inference.windows import blend_weights

__all__ = ["RowBlender", "Strip"]


@dataclass(frozen=True)
class Strip:
    """Rows of a scene that no further window reaches.

    Attributes:
        start: first row.
        scores: (T, rows, W) float32, blended scores in 0..1; 0 where no window was.
    """

    start: int
    scores: torch.Tensor


class RowBlender:
    """Weighted sums of windows' scores over the rows that are still open.

    It holds as many rows as a window has: its memory does not depend on the scene's height.

    Args:
        num_classes: T.
        width: of the scene in pixels.
        window: side of a window in pixels.
        overlap: of neighbouring windows in pixels.
        start: the first row.
    """

    def __init__(self, *, num_classes: int, width: int, window: int, overlap: int, start: int = 0) -> None:
        profile = torch.from_numpy(blend_weights(window, overlap))
        self._weights = profile[:, None] * profile[None]  # (window, window)
        self._sums = torch.zeros(num_classes, window, width)
        self._totals = torch.zeros(window, width)
        self.start = start

    def add(self, column: int, scores: torch.Tensor) -> None:
        """Add the scores (T, window, window) of a window whose first row is the first open one.

        What lies beyond the scene's width is dropped.
        """
        columns = slice(column, column + scores.shape[2])
        totals = self._totals[:, columns]
        weights = self._weights[:, : totals.shape[1]]
        self._sums[:, :, columns].addcmul_(scores[:, :, : totals.shape[1]], weights)
        totals.add_(weights)

    def close(self, end: int) -> Strip:
        """Give the rows before ``end``, and open as many new ones."""
        count = min(end - self.start, self._totals.shape[0])
        totals = self._totals[:count]
        scores = self._sums[:, :count] / torch.where(totals > 0, totals, 1.0)
        strip = Strip(self.start, scores)
        for rows in (self._sums, self._totals):
            still_open = rows[..., count:, :].clone()  # where it goes may overlap with where it is
            rows[..., : still_open.shape[-2], :] = still_open
            rows[..., still_open.shape[-2] :, :] = 0
        self.start += count
        return strip
