"""Attention among many tokens in bfloat16 on CPUs.

PyTorch's fused kernel for CPUs is no faster in bfloat16 than in float32, while a bfloat16 product is twice as fast. Two
such products and a softmax, on as many queries as fit the cache, are; docs/PERFORMANCE.md has what it gains.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["ChunkedAttention", "chunked_attention"]

QUERIES = 512  # at a time: their scores with 2305 keys take 2.4 MB
LEAST_TOKENS = 1024  # of fewer, the fused kernel is as fast


def chunked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Softmax attention, one head and some queries at a time, with the scores in the type of the inputs.

    Args:
        query: (B, H, N, D), on a CPU, without gradient.
        key, value: (B, H, M, D), of the same type.
        scale: of the scores; None: D ** -0.5.

    Returns:
        (B, H, N, D), in memory (B, N, H, D), which is how it is used next.
    """
    batch, heads, tokens, width = query.shape
    key, value = key.contiguous(), value.contiguous()
    query = query * (width**-0.5 if scale is None else scale)
    output = query.new_empty(batch, tokens, heads, width).transpose(1, 2)
    scores = query.new_empty(min(QUERIES, tokens), key.shape[2])
    weights = torch.empty_like(scores)
    for image in range(batch):
        for head in range(heads):
            head_query, head_key, head_value, head_output = (
                tensor[image, head] for tensor in (query, key, value, output)
            )
            for first in range(0, tokens, QUERIES):
                some = slice(first, min(first + QUERIES, tokens))
                rows = slice(0, some.stop - first)
                torch.mm(head_query[some], head_key.T, out=scores[rows])
                torch.softmax(scores[rows], dim=-1, out=weights[rows])
                head_output[some] = weights[rows] @ head_value
    return output


class ChunkedAttention(TorchFunctionMode):
    """Within this context, attention that :func:`chunked_attention` does faster is done by it, in any library's blocks.

    That is attention in bfloat16, by type or by autocast, without a mask, a gradient or dropout, among at least 1024
    tokens on a CPU.
    """

    def __torch_function__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Stand in for ``scaled_dot_product_attention``; let everything else pass."""
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention and _is_faster_in_chunks(*args, **kwargs):
            function = _in_bfloat16
        return function(*args, **kwargs)


def _in_bfloat16(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float | None = None, **_neutral: Any
) -> torch.Tensor:
    return chunked_attention(*(tensor.to(torch.bfloat16) for tensor in (query, key, value)), scale=scale)


def _is_faster_in_chunks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    if query.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    autocast_type = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    return (
        autocast_type is torch.bfloat16
        and min(query.shape[2], key.shape[2]) >= LEAST_TOKENS
        and attn_mask is None
        and dropout_p == 0.0
        and not (is_causal or enable_gqa)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value)))
    )
