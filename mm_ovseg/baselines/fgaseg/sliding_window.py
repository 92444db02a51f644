"""The windows of the released evaluation: four overlapping quarters of an enlarged image, and the whole image."""

import torch
import torch.nn.functional as F

__all__ = ["WINDOW", "join_windows", "split_into_windows"]

SIDE, WINDOW, STRIDE = 640, 384, 256  # pixels, of the enlarged image, of a window, and from one to the next
CORNERS = [(top, left) for top in range(0, SIDE - WINDOW + 1, STRIDE) for left in range(0, SIDE - WINDOW + 1, STRIDE)]


def split_into_windows(image: torch.Tensor) -> torch.Tensor:
    """An image (3, H, W) as float32 (5, 3, 384, 384): the windows, then the image as a whole."""
    enlarged, whole = (_resized(image[None].float(), side) for side in (SIDE, WINDOW))
    return torch.cat([*(enlarged[..., y : y + WINDOW, x : x + WINDOW] for y, x in CORNERS), whole])


def join_windows(scores: torch.Tensor) -> torch.Tensor:
    """Scores (5, T, 384, 384) -> (T, 640, 640): windows are averaged where they overlap, then with the whole."""
    total = scores.new_zeros(scores.shape[1], SIDE, SIDE)
    count = scores.new_zeros(SIDE, SIDE)
    for window, (y, x) in zip(scores, CORNERS, strict=False):
        total[:, y : y + WINDOW, x : x + WINDOW] += window
        count[y : y + WINDOW, x : x + WINDOW] += 1
    return (total / count + _resized(scores[-1:], SIDE)[0]) / 2


def _resized(x: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
