"""The losses of EBSeg: 41 terms for ten stages of the transformer decoder (baselines.md, 2.10)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.projects.point_rend.point_features import get_uncertain_point_coords_with_randomness, point_sample

from mm_ovseg.baselines.ebseg.matching import POINTS, Matches, Targets, assign, matching_cost
from mm_ovseg.modeling.distributed import mean_over_processes

__all__ = ["StagePrediction", "ebseg_losses", "uncertain_points"]

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT, STRUCTURE_WEIGHT = 1.5, 5.0, 5.0, 10.0
NO_OBJECT_WEIGHT = 0.1  # of a query without a match, in cross-entropy
OVERSAMPLING, UNCERTAIN_SHARE = 3, 0.75  # of the places of a mask's loss, as in PointRend


@dataclass
class StagePrediction:
    """What the losses of a stage compare, in float32.

    Attributes:
        class_logits: (B, Q, T + 1) of the class embeddings, "no object" last.
        recognition_logits: (B, Q, T + 1) of CLIP's recognition head.
        masks: logits (B, Q, h, w).
    """

    class_logits: torch.Tensor
    recognition_logits: torch.Tensor
    masks: torch.Tensor


def ebseg_losses(
    stages: Sequence[StagePrediction], embeddings: torch.Tensor, text: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Match queries and classes in every stage, and compare them.

    The matching is done on the CPU, which waits for the device once a batch.

    Args:
        stages: of the decoder, the last layer's last.
        embeddings: class embeddings of the last stage, (B, Q, C).
        text: (T, C).
        labels: (B, H, W), classes 0 to T - 1; other values belong to none.

    Returns:
        The weighted terms by their published names; without a suffix for the last stage. Each is the mean over all
        processes, as :func:`~mm_ovseg.modeling.distributed.mean_over_processes` takes it.
    """
    targets = Targets.from_labels(labels, classes=text.shape[0], dtype=text.dtype)
    matches = match(stages, targets)
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in ("loss_ce", "1_loss_ce", "loss_mask", "loss_dice")}
    for stage, query, found in zip(stages, matches.query, matches.found, strict=True):
        classes = query_classes(query, found, stage.masks.shape[1])
        sums["loss_ce"].append(CLASS_WEIGHT * class_loss(stage.class_logits, classes))
        sums["1_loss_ce"].append(CLASS_WEIGHT * class_loss(stage.recognition_logits, classes))
        cross_entropy, dice = mask_losses(stage.masks, targets.masks, query)
        sums["loss_mask"].append(MASK_WEIGHT * (cross_entropy * found).sum())
        sums["loss_dice"].append(DICE_WEIGHT * (dice * found).sum())
    matched = matches.found[-1].sum()  # as many in every stage
    class_count = NO_OBJECT_WEIGHT * (stages[-1].masks.shape[:2].numel() - matched) + matched
    mask_count = targets.present.sum().to(class_count.dtype)
    last = len(stages) - 1
    losses = {}
    for name, terms in sums.items():
        count = class_count if name.endswith("loss_ce") else mask_count
        means = mean_over_processes(torch.stack(terms), count)
        losses |= {name if stage == last else f"{name}_{stage}": mean for stage, mean in enumerate(means.unbind())}
    structure = structure_loss(embeddings, text, matches.query[-1], matches.found[-1])
    images = structure.new_full((), len(structure))
    losses["mse_ssc_loss_1"] = STRUCTURE_WEIGHT * mean_over_processes(structure.sum(), images)
    return losses


def match(stages: Sequence[StagePrediction], targets: Targets) -> Matches:
    """Match all stages, with a single copy of their costs to the CPU."""
    costs = torch.stack([matching_cost(stage.class_logits, stage.masks, targets) for stage in stages])  # (S, B, Q, T)
    present = targets.present[None, :, None].expand(costs.shape[0], -1, -1, -1)
    costs, present = torch.cat([costs, present.to(costs.dtype)], dim=2).cpu().split([costs.shape[2], 1], dim=2)
    return assign(costs, present[0, :, 0] > 0).to(targets.present.device)


def query_classes(query: torch.Tensor, found: torch.Tensor, queries: int) -> torch.Tensor:
    """The class of each query, (B, Q), from the matches (B, T); T, "no object", for the others."""
    images, classes = query.shape
    result = query.new_full((images, queries + 1), classes)
    index = torch.arange(classes, device=query.device).expand(images, -1)
    result.scatter_(1, query.where(found, queries), index)  # classes without a match go to an extra query
    return result[:, :queries]


def class_loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The weighted sum of cross-entropies of queries: logits (B, Q, T + 1), classes (B, Q)."""
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = NO_OBJECT_WEIGHT
    return F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight=weight, reduction="sum")


def mask_losses(masks: torch.Tensor, truth: torch.Tensor, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy and dice loss, (B, T) each, of the masks (B, Q, h, w) of queries (B, T) and (B, T, H, W)."""
    chosen = masks.take_along_dim(query[..., None, None], dim=1).flatten(0, 1)[:, None]  # (B * T, 1, h, w)
    with torch.no_grad():
        points = uncertain_points(chosen)
        truth = point_sample(truth.flatten(0, 1)[:, None], points, align_corners=False)[:, 0]  # (B * T, P)
    logits = point_sample(chosen, points, align_corners=False)[:, 0]
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=-1)
    inside = logits.sigmoid()
    dice = 1 - (2 * (inside * truth).sum(dim=-1) + 1) / (inside.sum(dim=-1) + truth.sum(dim=-1) + 1)
    return cross_entropy.view(query.shape), dice.view(query.shape)


def structure_loss(
    embeddings: torch.Tensor, text: torch.Tensor, query: torch.Tensor, found: torch.Tensor
) -> torch.Tensor:
    """How much products of class embeddings differ from those of their classes' text, (B,); 0 without a match.

    Args:
        embeddings: (B, Q, C).
        text: (T, C).
        query, found: (B, T), see :class:`~mm_ovseg.baselines.ebseg.matching.Matches`.
    """
    chosen = embeddings.take_along_dim(query[..., None], dim=1)  # (B, T, C)
    difference = chosen @ chosen.transpose(1, 2) - text @ text.T  # (B, T, T)
    pairs = (found[:, :, None] & found[:, None]).to(difference.dtype)
    return (difference.square() * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)


def uncertain_points(masks: torch.Tensor) -> torch.Tensor:
    """Places x, y, 0..1, (N, P, 2), most of them where the logits (N, 1, h, w) are closest to 0."""
    return get_uncertain_point_coords_with_randomness(
        masks, lambda logits: -logits.abs(), POINTS, OVERSAMPLING, UNCERTAIN_SHARE
    )
