"""From the head's logits to the scores of a map."""

import torch
import torch.nn.functional as F

from mm_ovseg.modeling.precision import at_least_float32

__all__ = ["scores_of_size"]


def scores_of_size(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Sigmoid, then bilinear resizing, in the order of the released code: the other one gives other maps.

    Args:
        logits: (B, T, h, w); half precision becomes float32.
        size: height and width of the result.

    Returns:
        Scores (B, T, height, width), 0..1.
    """
    scores = F.interpolate(at_least_float32(logits).sigmoid(), size, mode="bilinear", align_corners=False)
    return scores.clamp_(max=1.0)  # the weights of resizing are rounded, and may sum to a little more
