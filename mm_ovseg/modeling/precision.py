"""Where numbers of half precision are not enough."""

import torch

__all__ = ["at_least_float32"]


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Float32 of half-precision tensors; float32 and float64 stay as they are, so that a model can run in either."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
