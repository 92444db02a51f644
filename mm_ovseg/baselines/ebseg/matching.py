"""Which query stands for which class of an image, in training."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.projects.point_rend.point_features import point_sample
from scipy.optimize import linear_sum_assignment

__all__ = ["Matches", "Targets", "assign", "matching_cost", "random_points"]

CLASS_COST, MASK_COST, DICE_COST = 2.0, 5.0, 5.0
POINTS = 12544  # places at which masks are compared, 112 * 112


@dataclass
class Targets:
    """One binary mask for every class, so that shapes do not depend on the labels.

    Attributes:
        masks: (B, T, H, W), 0 or 1.
        present: bool (B, T), whether the image has the class.
    """

    masks: torch.Tensor
    present: torch.Tensor

    @classmethod
    def from_labels(cls, labels: torch.Tensor, classes: int, dtype: torch.dtype) -> "Targets":
        """Of label maps (B, H, W) with classes 0 to T - 1; other values belong to none."""
        masks = labels[:, None] == torch.arange(classes, device=labels.device)[:, None, None]
        return cls(masks.to(dtype), masks.flatten(2).any(dim=-1))


@dataclass
class Matches:
    """The matching of all S stages.

    Attributes:
        query: int64 (S, B, T), the query of each class; any one for a class without a match.
        found: bool (S, B, T), whether there is a match: not for a class that the image lacks, nor for more classes
            than queries.
    """

    query: torch.Tensor
    found: torch.Tensor

    def to(self, device: torch.device) -> "Matches":
        """On another device."""
        return Matches(self.query.to(device), self.found.to(device))


@torch.no_grad()
def matching_cost(class_logits: torch.Tensor, masks: torch.Tensor, targets: Targets) -> torch.Tensor:
    """The cost of every query for every class, at random places that all masks of an image share.

    Args:
        class_logits: (B, Q, T + 1), "no object" last.
        masks: logits (B, Q, h, w).
        targets: of the images.

    Returns:
        (B, Q, T).
    """
    points = random_points(masks.shape[0], POINTS, masks)
    logits = point_sample(masks, points, align_corners=False)  # (B, Q, P)
    truth = point_sample(targets.masks, points, align_corners=False).transpose(1, 2)  # (B, P, T)
    # -log sigmoid(x) = softplus(x) - x where the truth is 1, and softplus(x) where it is 0
    cross_entropy = (F.softplus(logits).sum(dim=-1, keepdim=True) - logits @ truth) / logits.shape[-1]
    inside = logits.sigmoid()
    area = inside.sum(dim=-1, keepdim=True) + truth.sum(dim=1, keepdim=True)
    dice = 1 - (2 * (inside @ truth) + 1) / (area + 1)
    return MASK_COST * cross_entropy + DICE_COST * dice - CLASS_COST * class_logits.softmax(dim=-1)[..., :-1]


def assign(costs: torch.Tensor, present: torch.Tensor) -> Matches:
    """Match queries and classes so that the sum of costs is smallest (Hungarian algorithm), on the CPU.

    Args:
        costs: (S, B, Q, T) on the CPU; values that are not finite count as very high, since the trainer reports them.
        present: bool (B, T) on the CPU, the classes to match.
    """
    stages, images, _, classes = costs.shape
    costs = costs.nan_to_num(nan=1e6, posinf=1e6, neginf=1e6).numpy()
    query = np.zeros((stages, images, classes), np.int64)
    found = np.zeros((stages, images, classes), bool)
    for image, columns in enumerate(present.numpy()):
        (columns,) = np.nonzero(columns)
        for stage in range(stages):
            rows, chosen = linear_sum_assignment(costs[stage, image][:, columns])
            query[stage, image, columns[chosen]] = rows
            found[stage, image, columns[chosen]] = True
    return Matches(torch.from_numpy(query), torch.from_numpy(found))


def random_points(count: int, points: int, like: torch.Tensor) -> torch.Tensor:
    """Places x, y, 0..1, (count, points, 2), of the type and on the device of another tensor."""
    return torch.rand(count, points, 2, dtype=like.dtype, device=like.device)
