"""Upcasting where half precision is not enough."""

import torch

__all__ = ["at_least_float32"]


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Convert half-precision tensors to float32; keep float32 and float64, so that a model can run in either."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
