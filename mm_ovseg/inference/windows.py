"""The windows of a scene, and the blending of their scores where they overlap.

Windows are on a lattice that starts at the first pixel of the scene, whatever part of it is mapped. So a pixel is in
the same windows, and gets the same class, whether the whole scene is mapped or only a corner of it.
"""

import numpy as np
import torch

__all__ = ["RowBlender", "blend_weights"]


def blend_weights(window: int, overlap: int) -> np.ndarray:
    """The blending weights of a window along one axis.

    A raised cosine over the overlap and 1 between: the weights of two neighbours that overlap by ``overlap`` sum to 1,
    fall smoothly towards the borders of the window, where a model has least context, and are never 0.

    Returns:
        (window,) float32, in (0, 1]; symmetric.
    """
    weights = np.ones(window)
    ramp = np.sin(0.5 * np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    weights[:overlap] = ramp
    weights[window - overlap :] = np.minimum(weights[window - overlap :], ramp[::-1])  # ramps meet if overlap > 1/2
    return weights.astype(np.float32)


class RowBlender:
    """Weighted sums of windows' scores, a row of windows at a time.

    It holds as many rows as a window, so its memory does not depend on the height of the scene.

    Args:
        num_classes: T.
        width: width of the scene in pixels.
        window: side of a window in pixels.
        overlap: overlap of neighbouring windows in pixels.
        start: the first row.
    """

    def __init__(self, *, num_classes: int, width: int, window: int, overlap: int, start: int = 0) -> None:
        profile = torch.from_numpy(blend_weights(window, overlap))
        self._weights = profile[:, None] * profile[None]  # (window, window)
        self._sums = torch.zeros(num_classes, window, width)
        self._totals = torch.zeros(window, width)
        self._start = start

    def add(self, column: int, scores: torch.Tensor) -> None:
        """Add the scores (T, window, window) of a window whose first row is the first open one.

        Pixels beyond the width of the scene are dropped.
        """
        columns = slice(column, column + scores.shape[2])
        totals = self._totals[:, columns]
        weights = self._weights[:, : totals.shape[1]]
        self._sums[:, :, columns].addcmul_(scores[:, :, : totals.shape[1]], weights)
        totals.add_(weights)

    def close(self, end: int) -> torch.Tensor:
        """The blended scores (T, rows, W) of the rows before ``end``, 0..1; 0 where there was no window."""
        count = min(end - self._start, len(self._totals))
        totals = self._totals[:count]
        scores = self._sums[:, :count] / torch.where(totals > 0, totals, 1.0)
        for rows in (self._sums, self._totals):
            still_open = rows[..., count:, :].clone()  # source and destination may overlap
            rows[..., : still_open.shape[-2], :] = still_open
            rows[..., still_open.shape[-2] :, :] = 0
        self._start += count
        return scores
