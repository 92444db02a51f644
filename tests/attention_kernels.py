"""Which kernels run."""

from collections.abc import Callable

import torch

__all__ = ["check_attention_is_fused", "kernels_of"]

FUSED = "aten::_scaled_dot_product_flash_attention_for_cpu"
PLAIN = {"aten::_scaled_dot_product_attention_math", "aten::_masked_softmax"}


def kernels_of(function: Callable[[], object]) -> set[str]:
    """The names of the operations that a function runs on the CPU."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        function()
    return {event.name for event in profile.events()}


def check_attention_is_fused(function: Callable[[], object]) -> None:
    """Check that a function calls attention, and that PyTorch never takes its plain formulation."""
    names = kernels_of(function)
    assert FUSED in names and not PLAIN & names
