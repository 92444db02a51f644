"""What float32 means, mixed precision in evaluation mode, and upcasting where half precision is not enough."""

from contextlib import AbstractContextManager, nullcontext

import torch

from mm_ovseg.choices import check_choice
from mm_ovseg.errors import ConfigError

__all__ = ["allow_tf32", "at_least_float32", "inference_precision", "read_inference_dtype"]

INFERENCE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def allow_tf32(allowed: bool) -> None:
    """Let NVIDIA GPUs from Ampere on round the inputs of float32 products to 10 bits (TF32), or not.

    It holds for all of the process. PyTorch allows it in convolutions alone by default.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def read_inference_dtype(name: str) -> torch.dtype:
    """The type that ``MODEL.INFERENCE_DTYPE`` names.

    Raises:
        ConfigError: it is not ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    """
    check_choice("MODEL.INFERENCE_DTYPE", name, INFERENCE_DTYPES)
    return INFERENCE_DTYPES[name]


def inference_precision(dtype: torch.dtype, device: torch.device) -> AbstractContextManager:
    """The context for a model's work in evaluation mode; with float32 the caller's own autocast, if any, is kept.

    Raises:
        ConfigError: float16 on a CPU, which emulates it hundreds of times slower than float32.
    """
    if dtype is torch.float32:
        return nullcontext()
    if dtype is torch.float16 and device.type == "cpu":
        raise ConfigError("MODEL.INFERENCE_DTYPE float16 is for GPUs: CPUs emulate it; set it to bfloat16.")
    return torch.autocast(device.type, dtype)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Convert half-precision tensors to float32; keep float32 and float64, so that a model can run in either."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
