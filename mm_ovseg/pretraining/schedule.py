"""The optimiser and the learning rates of both kinds of pre-training."""

import torch
from torch import nn

__all__ = ["build_optimizer_and_schedule"]


def build_optimizer_and_schedule(
    model: nn.Module, learning_rate: float, iterations: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW without decay of biases, norms and scales; a rise over 5% of the steps, then a cosine to 0."""
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
        pct_start=max(0.05, 2 / max(iterations, 4)),  # at least one step of rising
        cycle_momentum=False,
    )
    return optimizer, schedule
