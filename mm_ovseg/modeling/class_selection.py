"""Working on some of the classes, each image on its own, and putting their maps back among all."""

import torch

__all__ = ["EXCLUDED_LOGIT", "most_similar_classes", "restore_classes", "take_classes"]

EXCLUDED_LOGIT = -100.0  # of classes that are left out: a probability of 0


def most_similar_classes(cost: torch.Tensor, count: int) -> torch.Tensor:
    """The classes with the highest similarity anywhere in the image.

    Args:
        cost: (B, P, T, h, w), averaged over the P templates.
        count: at most T.

    Returns:
        Indices (B, count) of each image's classes.
    """
    return cost.mean(dim=1).amax(dim=(-2, -1)).topk(count).indices


def take_classes(tensor: torch.Tensor, indices: torch.Tensor, dim: int) -> torch.Tensor:
    """Take each image's own classes ``indices`` (B, K) along axis ``dim`` of ``tensor`` (B, ...)."""
    shape = [1] * tensor.dim()
    shape[0], shape[dim] = indices.shape
    return tensor.take_along_dim(indices.view(shape), dim=dim)


def restore_classes(logits: torch.Tensor, indices: torch.Tensor, classes: int) -> torch.Tensor:
    """Logits (B, classes, h, w) from those (B, K, h, w) of the classes ``indices`` (B, K); the others get -100."""
    everything = logits.new_full((logits.shape[0], classes, *logits.shape[2:]), EXCLUDED_LOGIT)
    return everything.scatter(1, indices[:, :, None, None].expand_as(logits), logits)
