"""The segmentation losses of stage 2; those of stage 1 are in unification_losses.py."""

import torch
import torch.nn.functional as F
from fvcore.common.registry import Registry

__all__ = ["SEGMENTATION_LOSS_REGISTRY", "segmentation_loss"]

SEGMENTATION_LOSS_REGISTRY = Registry("SEGMENTATION_LOSS")
SEGMENTATION_LOSS_REGISTRY.__doc__ = """
Registry of functions ``(logits, target, *, ignore_label, ignored_as_negative)`` that return a scalar, as in
:func:`segmentation_loss`; LOSS.NAME names one.
"""


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
        name: ``"binary_cross_entropy"``, averaged over all T maps, ``"cross_entropy"``, or another name in
            :data:`SEGMENTATION_LOSS_REGISTRY`.
        ignore_label: label of ignored pixels.
        ignored_as_negative: ignored pixels are negatives for every class (as in the published training and CAT-Seg)
            instead of being excluded; for binary cross-entropy only.

    Returns:
        A scalar; 0, with a gradient of 0, if all pixels are excluded.
    """
    loss = SEGMENTATION_LOSS_REGISTRY.get(name)
    return loss(logits, target, ignore_label=ignore_label, ignored_as_negative=ignored_as_negative)


@SEGMENTATION_LOSS_REGISTRY.register()
def binary_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_label: int, ignored_as_negative: bool
) -> torch.Tensor:
    """Every class against all others, averaged over pixels and classes."""
    counted = target != ignore_label  # (B, H, W)
    positive = torch.zeros_like(logits)
    positive.scatter_(
        1, target.where(counted, 0)[:, None], counted[:, None].to(logits)
    )  # one-hot; all 0 at ignored pixels
    if ignored_as_negative:
        return F.binary_cross_entropy_with_logits(logits, positive)
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none").mean(dim=1)  # (B, H, W)
    return (losses * counted).sum() / counted.sum().clamp(min=1)


@SEGMENTATION_LOSS_REGISTRY.register()
def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_label: int, ignored_as_negative: bool
) -> torch.Tensor:
    """One class against the others, averaged over pixels; ignored pixels are always excluded."""
    total = F.cross_entropy(logits, target, ignore_index=ignore_label, reduction="sum")
    return total / (target != ignore_label).sum().clamp(min=1)
