"""The training loop shared by both kinds of pre-training."""

from collections.abc import Callable

import torch
from torch import nn
from tqdm import trange

__all__ = ["train"]


def train(
    model: nn.Module,
    compute_loss: Callable[[], torch.Tensor],
    *,
    iterations: int,
    learning_rate: float,
    description: str,
    show_progress: bool,
) -> list[float]:
    """Train with AdamW, without weight decay of biases, norms and scales; leave the model in evaluation mode.

    Args:
        model: the model to train.
        compute_loss: draws a batch and returns its loss.
        iterations: training steps.
        learning_rate: the maximum; it rises over the first 5% of the steps and falls as a cosine.
        description: title of the progress bar.
        show_progress: show a progress bar on stderr.

    Returns:
        The loss of every step.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": 0.05},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        learning_rate,
        total_steps=max(iterations, 4),
        pct_start=max(0.05, 2 / max(iterations, 4)),  # at least one step of warm-up
        cycle_momentum=False,
    )
    model.train()
    losses = []
    for _ in trange(iterations, desc=description, disable=not show_progress):
        loss = compute_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return losses
