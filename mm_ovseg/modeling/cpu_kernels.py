"""Kernels that are faster than PyTorch's own on CPUs; docs/PERFORMANCE.md has the measurements.

Attention in bfloat16: PyTorch's fused kernel is no faster than in float32, although a bfloat16 product is twice as
fast. Two such products and a softmax, on as many queries as fit in the cache, are faster.

Linear layers in float32: PyTorch uses oneDNN for them only inside ``torch.compile``; its own path first copies the bias
into the output, and writes the input of an activation to memory only to read it again. The kernel here is the one that
``torch.compile`` calls, without the compilation.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["ChunkedAttention", "OneDNNLinear", "chunked_attention", "fast_attention", "use_onednn"]

QUERIES = 512  # at a time: their scores with 2305 keys take 2.4 MB
MIN_TOKENS = 1024  # with fewer, the fused kernel is as fast
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def fast_attention(device: torch.device) -> AbstractContextManager:
    """The context for an encoder's blocks: :class:`ChunkedAttention` on CPUs, a null context elsewhere."""
    return ChunkedAttention() if device.type == "cpu" else nullcontext()


class ChunkedAttention(TorchFunctionMode):
    """A context in which attention uses :func:`chunked_attention` where that is faster, in any library's blocks.

    That is attention in bfloat16, by type or by autocast, without mask, gradient or dropout, among at least 1024
    tokens on a CPU.
    """

    def __torch_function__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace ``scaled_dot_product_attention``; pass everything else through."""
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention and _is_faster_in_chunks(*args, **kwargs):
            function = _in_bfloat16
        return function(*args, **kwargs)


def chunked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Softmax attention, one head and some queries at a time, with scores in the type of the inputs.

    Args:
        query: (B, H, N, D), on a CPU, without gradient.
        key, value: (B, H, M, D), of the same type.
        scale: factor of the scores; None for D ** -0.5.

    Returns:
        (B, H, N, D), laid out in memory as (B, N, H, D), as the next operation needs it.
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
        and min(query.shape[2], key.shape[2]) >= MIN_TOKENS
        and attn_mask is None
        and dropout_p == 0.0
        and not (is_causal or enable_gqa)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value)))
    )


class OneDNNLinear(nn.Linear):
    """``nn.Linear``, optionally followed by GELU, with the same parameters and, up to rounding, the same results.

    oneDNN runs it in float32 on a CPU without gradient; in all other cases PyTorch's own implementation is used.
    """

    gelu: bool = False

    @classmethod
    def like(cls, linear: nn.Linear, *, gelu: bool = False) -> "OneDNNLinear":
        """Make a layer that shares its parameters with ``linear``."""
        layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        layer.gelu = gelu
        return layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        if x.device.type != "cpu" or not self._can_run(x):
            x = super().forward(x)
            return F.gelu(x) if self.gelu else x
        activation, algorithm = ("gelu", "none") if self.gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], algorithm)

    def _can_run(self, x: torch.Tensor) -> bool:
        return (
            HAS_ONEDNN
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not (torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad))
            and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        )


def use_onednn(module: nn.Module) -> None:
    """Replace the linear layers in a module, in place; names and parameters are kept."""
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            setattr(module, name, OneDNNLinear.like(child))
        else:
            use_onednn(child)
    if isinstance(module, Mlp) and isinstance(module.act, nn.GELU) and module.act.approximate == "none":
        module.fc1 = OneDNNLinear.like(module.fc1, gelu=True)
        module.act = nn.Identity()
