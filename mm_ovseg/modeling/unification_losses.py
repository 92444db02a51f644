"""The losses of stage 1, which align the tokens of two encoders; exact across processes."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.utils import comm
from fvcore.common.registry import Registry

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.distributed import gather_rows, mean_over_processes
from mm_ovseg.modeling.precision import at_least_float32

__all__ = ["NEGATIVES", "UNIFICATION_LOSS_REGISTRY", "unification_loss"]

NEGATIVES = ("image", "batch")
NO_TARGET = -100

UNIFICATION_LOSS_REGISTRY = Registry("UNIFICATION_LOSS")
UNIFICATION_LOSS_REGISTRY.__doc__ = """
Registry of functions ``(student, teacher, valid, *, temperature, negatives, symmetric)`` that return one loss per
token, (B, K); CMU.LOSS names one. Those of tokens that are not valid are left out of the mean, but must be finite.
The arguments are those of :func:`unification_loss`, in float32. A loss that needs no settings takes ``**_settings``
instead.
"""


def unification_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    valid: torch.Tensor,
    *,
    name: str,
    temperature: torch.Tensor | float = 1.0,
    negatives: str = "batch",
    symmetric: bool = False,
) -> torch.Tensor:
    """Pull each SAR token towards the RGB token at its position (paper, stage 1).

    Args:
        student: (B, K, D) L2-normalised SAR tokens: K positions in each of B images.
        teacher: (B, K, D) L2-normalised RGB tokens at the same positions, without gradient.
        valid: (B, K) bool; other tokens are neither queries nor keys.
        name: ``"infonce"``, ``"mse"``, ``"l1"``, or another name in :data:`UNIFICATION_LOSS_REGISTRY`.
        temperature, negatives, symmetric: see :func:`infonce`.

    Returns:
        A scalar, the mean over the valid tokens of all processes, as
        :func:`~mm_ovseg.modeling.distributed.mean_over_processes` takes it; 0, with a gradient of 0, without valid
        tokens. With gradient accumulation, a mean per batch.

    Raises:
        ConfigError: the registered function returns another shape.
        DataError: processes hold batches of different sizes, see :func:`~mm_ovseg.modeling.distributed.gather_rows`.
    """
    loss = UNIFICATION_LOSS_REGISTRY.get(name)
    with torch.autocast(student.device.type, enabled=False):  # bfloat16 is too coarse for similarities
        student, teacher = at_least_float32(student), at_least_float32(teacher)
        losses = loss(student, teacher, valid, temperature=temperature, negatives=negatives, symmetric=symmetric)
        if losses.shape != valid.shape:
            raise ConfigError(
                f"CMU.LOSS {name} returns losses of shape {tuple(losses.shape)}; it must return one for each token, "
                f"{tuple(valid.shape)}, valid or not."
            )
        return mean_over_processes(losses.where(valid, 0.0).sum(), valid.sum())


@UNIFICATION_LOSS_REGISTRY.register()
def infonce(
    student: torch.Tensor,
    teacher: torch.Tensor,
    valid: torch.Tensor,
    *,
    temperature: torch.Tensor | float,
    negatives: str,
    symmetric: bool,
) -> torch.Tensor:
    """Cross-entropy of a SAR token's cosine similarities to RGB tokens, with its partner as the target.

    Args:
        student, teacher, valid: see :func:`unification_loss`.
        temperature: divides the similarities.
        negatives: the RGB tokens other than the partner: ``"batch"``, those of all images of all processes, or
            ``"image"``, those of the same image.
        symmetric: average with the same loss from RGB to SAR tokens. SAR tokens are gathered with gradients, so that
            they also learn from the RGB tokens of other processes.
    """
    losses = _infonce(student, teacher, valid, temperature, negatives)
    if symmetric:
        losses = (losses + _infonce(teacher, student, valid, temperature, negatives)) / 2
    return losses


@UNIFICATION_LOSS_REGISTRY.register()
def mse(student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor, **_settings: Any) -> torch.Tensor:
    """Squared differences, summed over channels; no negatives."""
    return (student - teacher).square().sum(dim=2)


@UNIFICATION_LOSS_REGISTRY.register()
def l1(student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor, **_settings: Any) -> torch.Tensor:
    """Absolute differences, summed over channels; no negatives."""
    return (student - teacher).abs().sum(dim=2)


def _infonce(
    queries: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor, temperature: torch.Tensor | float, negatives: str
) -> torch.Tensor:
    """One loss per query, (B, K); 0 where it is not valid."""
    images, places, _ = queries.shape
    if negatives == "image":
        similarity = queries @ keys.transpose(1, 2)  # (B, K, K)
        partner = torch.arange(places, device=keys.device).expand(images, -1)  # (B, K)
        keys_valid = valid
    else:
        similarity = queries @ gather_rows(keys.flatten(0, 1)).T  # (B, K, M), for M tokens of all processes
        first = comm.get_rank() * images * places
        partner = first + torch.arange(images * places, device=keys.device).view(images, places)
        keys_valid = gather_rows(valid.flatten())[None]  # (1, M)
    # If no key is valid, none is excluded: the softmax and its gradient would be NaN.
    excluded = ~keys_valid & keys_valid.any(dim=1, keepdim=True)
    scores = (similarity / temperature).masked_fill(excluded[:, None], float("-inf"))
    target = partner.where(valid, NO_TARGET)
    losses = F.cross_entropy(scores.flatten(0, 1), target.flatten(), ignore_index=NO_TARGET, reduction="none")
    return losses.view(images, places)
