"""The segmentation losses of stage 2; those of stage 1 are in unification_losses.py."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fvcore.common.registry import Registry

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.distributed import mean_over_processes
from mm_ovseg.modeling.precision import at_least_float32

__all__ = ["SEGMENTATION_LOSS_REGISTRY", "at_label_sizes", "segmentation_loss"]

SEGMENTATION_LOSS_REGISTRY = Registry("SEGMENTATION_LOSS")
SEGMENTATION_LOSS_REGISTRY.__doc__ = """
Registry of functions ``(logits, target, *, ignore_label, ignored_as_negative)`` that return losses and their weights,
two tensors of one shape, usually (B, H, W); LOSS.NAME names one. The arguments are those of :func:`segmentation_loss`,
for images of one size.
"""


def at_label_sizes(logits: torch.Tensor, targets: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Resize logits to the sizes of their label maps, for :func:`segmentation_loss`.

    Args:
        logits: (B, T, h, w); half precision becomes float32.
        targets: B label maps (H, W) int64, of any sizes, on the device of the logits.

    Returns:
        Logits (B, T, H, W), resized bilinearly, and targets (B, H, W); one pair for each image if sizes differ.
    """
    if len({target.shape for target in targets}) == 1:
        pairs = [(logits, torch.stack(tuple(targets)))]
    else:
        pairs = [(item_logits[None], target[None]) for item_logits, target in zip(logits, targets, strict=True)]
    return [
        (F.interpolate(at_least_float32(some), target.shape[1:], mode="bilinear", align_corners=False), target)
        for some, target in pairs
    ]


def segmentation_loss(
    batch: Sequence[tuple[torch.Tensor, torch.Tensor]], *, name: str, ignore_label: int, ignored_as_negative: bool
) -> torch.Tensor:
    """Compare logits with label maps.

    Args:
        batch: logits (B, T, H, W) and target (B, H, W) int64, class indices 0..T-1 or ``ignore_label``, for the images
            of each size.
        name: ``"binary_cross_entropy"``, averaged over all T maps, ``"cross_entropy"``, or another name in
            :data:`SEGMENTATION_LOSS_REGISTRY`.
        ignore_label: label of ignored pixels.
        ignored_as_negative: ignored pixels are negatives for every class (as in the published training and CAT-Seg)
            instead of being excluded; for binary cross-entropy only.

    Returns:
        A scalar, the mean over the counted pixels of all images of all processes, as
        :func:`~mm_ovseg.modeling.distributed.mean_over_processes` takes it; 0, with a gradient of 0, if all pixels are
        excluded. With gradient accumulation, each batch has a mean of its own, however many pixels it counts.

    Raises:
        ConfigError: the registered function returns something else than losses and weights.
    """
    loss = SEGMENTATION_LOSS_REGISTRY.get(name)
    results = [
        loss(logits, target, ignore_label=ignore_label, ignored_as_negative=ignored_as_negative)
        for logits, target in batch
    ]
    for result in results:
        if not isinstance(result, tuple) or len(result) != 2 or result[0].shape != result[1].shape:
            raise ConfigError(
                f"LOSS.NAME {name} does not return losses and weights, two tensors of one shape; see Losses in "
                "docs/ADVANCED_USAGE.md."
            )
    total = sum((losses * weights).sum() for losses, weights in results)
    return mean_over_processes(total, sum(weights.sum() for _, weights in results))


@SEGMENTATION_LOSS_REGISTRY.register()
def binary_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_label: int, ignored_as_negative: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every class against all others, averaged over classes."""
    counted = target != ignore_label  # (B, H, W)
    positive = torch.zeros_like(logits)
    positive.scatter_(
        1, target.where(counted, 0)[:, None], counted[:, None].to(logits)
    )  # one-hot; all 0 at ignored pixels
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none").mean(dim=1)  # (B, H, W)
    return losses, torch.ones_like(losses) if ignored_as_negative else counted.to(losses)


@SEGMENTATION_LOSS_REGISTRY.register()
def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_label: int, ignored_as_negative: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """One class against the others; ignored pixels are always excluded."""
    losses = F.cross_entropy(logits, target, ignore_index=ignore_label, reduction="none")  # (B, H, W)
    return losses, (target != ignore_label).to(losses)
