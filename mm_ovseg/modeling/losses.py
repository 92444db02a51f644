"""The segmentation loss of stage 2, and the alignment losses of stage 1."""

import torch
import torch.nn.functional as F
from detectron2.utils import comm

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.precision import at_least_float32

__all__ = ["ALIGNMENT_LOSSES", "SEGMENTATION_LOSSES", "alignment_loss", "check_loss_name", "segmentation_loss"]

SEGMENTATION_LOSSES = ("binary_cross_entropy", "cross_entropy")
ALIGNMENT_LOSSES = ("infonce", "mse", "l1")


def check_loss_name(key: str, name: str, known: tuple[str, ...]) -> None:
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


def alignment_loss(
    student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor, *, name: str, temperature: float
) -> torch.Tensor:
    """Pull each SAR token to the RGB token at its place (paper, stage 1; design §5).

    Args:
        student: (N, D) L2-normalised SAR tokens.
        teacher: (N, D) L2-normalised RGB tokens at the same places, without gradient.
        valid: (N,) bool; other tokens are neither compared nor compared with.
        name: ``"infonce"``: cross-entropy of the cosine similarities, over ``temperature``, to all RGB tokens of all
            processes, the partner being the right answer. ``"mse"`` and ``"l1"``: squared and absolute differences
            summed over channels, with no negatives.
        temperature: for ``"infonce"``.

    Returns:
        A scalar, the mean over this process's valid tokens; 0 where there is none.
    """
    if name == "infonce":
        candidates, candidates_valid = (_gather(tensor) for tensor in (teacher, valid))
        similarity = student @ candidates.to(student).T / temperature  # (N, N * processes)
        similarity = similarity.masked_fill(~candidates_valid, float("-inf"))
        partner = comm.get_rank() * len(student) + torch.arange(len(student), device=student.device)
        losses = F.cross_entropy(at_least_float32(similarity[valid]), partner[valid], reduction="none")
    elif name == "mse":
        losses = (student - teacher).square().sum(dim=1)[valid]
    else:
        losses = (student - teacher).abs().sum(dim=1)[valid]
    return losses.sum() / valid.sum().clamp(min=1)


def _gather(tensor: torch.Tensor) -> torch.Tensor:
    """Concatenate equally shaped tensors of all processes along the first axis, in the order of their ranks."""
    if comm.get_world_size() == 1:
        return tensor
    gathered = [torch.empty_like(tensor) for _ in range(comm.get_world_size())]
    torch.distributed.all_gather(gathered, tensor.contiguous())
    return torch.cat(gathered)
