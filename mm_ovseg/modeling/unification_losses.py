"""The losses of stage 1, which align the tokens of two encoders; exact across processes."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.utils import comm
from fvcore.common.registry import Registry

from mm_ovseg.modeling.precision import at_least_float32

__all__ = ["NEGATIVES", "UNIFICATION_LOSS_REGISTRY", "unification_loss"]

NEGATIVES = ("image", "batch")

UNIFICATION_LOSS_REGISTRY = Registry("UNIFICATION_LOSS")
UNIFICATION_LOSS_REGISTRY.__doc__ = """
Registry of functions ``(student, teacher, valid, *, temperature, negatives, symmetric)`` that return one loss per
valid token, (M,), in the order of ``student[valid]``; CMU.LOSS names one. The arguments are those of
:func:`unification_loss`, in float32. A loss that needs no settings takes ``**_settings`` instead.
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
        A scalar: the sum over this process's valid tokens, times the number of processes, divided by the number of
        valid tokens of all processes. Averaged over processes, as DistributedDataParallel averages gradients, that is
        the mean over all valid tokens, as in a single process. 0, with a gradient of 0, without valid tokens.
    """
    loss = UNIFICATION_LOSS_REGISTRY.get(name)
    with torch.autocast(student.device.type, enabled=False):  # bfloat16 is too coarse for similarities
        student, teacher = at_least_float32(student), at_least_float32(teacher)
        losses = loss(student, teacher, valid, temperature=temperature, negatives=negatives, symmetric=symmetric)
    total = valid.sum()
    if comm.get_world_size() > 1:
        dist.all_reduce(total)
    return losses.sum() * comm.get_world_size() / total.clamp(min=1)


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
    return (student - teacher).square().sum(dim=2)[valid]


@UNIFICATION_LOSS_REGISTRY.register()
def l1(student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor, **_settings: Any) -> torch.Tensor:
    """Absolute differences, summed over channels; no negatives."""
    return (student - teacher).abs().sum(dim=2)[valid]


def _infonce(
    queries: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor, temperature: torch.Tensor | float, negatives: str
) -> torch.Tensor:
    """One loss per valid query, in the order of ``queries[valid]``."""
    images, places, _ = queries.shape
    if negatives == "image":
        similarity = queries @ keys.transpose(1, 2)  # (B, K, K)
        partner = torch.arange(places, device=keys.device).expand(images, -1)
        keys_valid = valid[:, None]  # (B, 1, K)
    else:
        keys, counts = _gather(keys.flatten(0, 1))  # (M, D): the rows of all processes
        keys_valid, _ = _gather(valid.flatten())
        similarity = queries @ keys.T  # (B, K, M)
        first = sum(counts[: comm.get_rank()])
        partner = first + torch.arange(images * places, device=keys.device).view(images, places)
    scores = (similarity / temperature).masked_fill(~keys_valid, float("-inf"))
    return F.cross_entropy(scores[valid], partner[valid], reduction="none")


def _gather(rows: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """The rows of all processes in order of rank, and their number per process, which may differ.

    Gradients flow from all processes back to the process of a row.
    """
    if comm.get_world_size() == 1:
        return rows, [len(rows)]
    lengths = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(comm.get_world_size())]
    dist.all_gather(lengths, torch.tensor([len(rows)], device=rows.device))
    counts = [int(length) for length in lengths]
    return _GatherRows.apply(rows, counts), counts


class _GatherRows(torch.autograd.Function):
    """``torch.distributed.all_gather`` with a gradient; PyTorch's own is deprecated and requires equal lengths."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded)
        return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.split(ctx.counts)[comm.get_rank()], None
