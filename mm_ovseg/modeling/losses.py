"""The segmentation loss of stage 2; those of stage 1 are in alignment.py."""

import torch
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError

__all__ = ["SEGMENTATION_LOSSES", "check_choice", "segmentation_loss"]

SEGMENTATION_LOSSES = ("binary_cross_entropy", "cross_entropy")


def check_choice(key: str, name: str, known: tuple[str, ...]) -> None:
    """Raise a ConfigError unless ``name``, the value of config key ``key``, is known."""
    if name not in known:
        raise ConfigError(f"{key} is '{name}'; choose one of {', '.join(known)}.")


def segmentation_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    name: str,
    ignore_label: int,
    ignored_as_negative: bool,
) -> torch.Tensor:
    """Compare logits with a label map.

    Args:
        logits: (B, T, H, W).
        target: (B, H, W) int64, class indices 0..T-1 or ``ignore_label``.
        name: ``"binary_cross_entropy"``, averaged over all T maps, or ``"cross_entropy"``.
        ignore_label: the label of pixels that have none.
        ignored_as_negative: ignored pixels are negatives of every class (the published training, after CAT-Seg)
            instead of being left out; for binary cross-entropy only.

    Returns:
        A scalar; 0, with a gradient of 0, where every pixel is left out.
    """
    counted = target != ignore_label  # (B, H, W)
    if name == "cross_entropy":
        total = F.cross_entropy(logits, target, ignore_index=ignore_label, reduction="sum")
        return total / counted.sum().clamp(min=1)
    positive = torch.zeros_like(logits)
    positive.scatter_(1, target.where(counted, 0)[:, None], counted[:, None].to(logits))  # one-hot; ignored: none
    if ignored_as_negative:
        return F.binary_cross_entropy_with_logits(logits, positive)
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none").mean(dim=1)  # (B, H, W)
    return (losses * counted).sum() / counted.sum().clamp(min=1)
