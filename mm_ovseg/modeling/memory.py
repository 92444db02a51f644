"""Saving memory with the same results: some classes at a time, and recomputed activations."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["by_class_chunks", "recomputed"]


def by_class_chunks(chunk: int, function: Callable[..., torch.Tensor], *inputs: torch.Tensor | None) -> torch.Tensor:
    """Apply a function that treats classes independently to ``chunk`` classes at a time.

    Args:
        chunk: classes at a time; 0 for all at once.
        function: tensors (B, t, ...) -> (B, t, ...), for any number t of classes.
        inputs: its arguments for all classes, (B, T, ...), or None.

    Returns:
        The result of ``function(*inputs)``, (B, T, ...).
    """
    classes = inputs[0].shape[1]
    if torch.compiler.is_compiling() or not 0 < chunk < classes:  # a graph for any number of classes cannot have a loop
        return function(*inputs)
    parts = [
        function(*(tensor if tensor is None else tensor[:, start : start + chunk] for tensor in inputs))
        for start in range(0, classes, chunk)
    ]
    return torch.cat(parts, dim=1)


def recomputed(enabled: bool, function: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
    """Call a function; if enabled and gradients are recorded, the backward pass calls it again.

    Only the inputs are stored until then, at the cost of another forward pass through ``function``.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False, **keywords)
    return function(*inputs, **keywords)
