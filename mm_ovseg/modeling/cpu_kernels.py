"""Kernels for inference on CPUs, where they are faster than PyTorch's own; docs/PERFORMANCE.md has the measurements.

The choice depends on the CPU alone, so that all processes on a machine compute the same bits:

====================  ==============================  =====================================
CPU                   with AMX (measured: Intel)      without (measured: AMD, with AVX-512)
====================  ==============================  =====================================
linear, float32       PyTorch's                       oneDNN's, GELU fused
linear, bfloat16      oneDNN's, with weights kept in  PyTorch's
                      bfloat16
attention, bfloat16   PyTorch's                       two products and a softmax in chunks
====================  ==============================  =====================================

PyTorch runs oneDNN's layers only inside ``torch.compile``, whose kernel this is: its own path copies the bias into the
output first and does not fuse GELU, and autocast converts the weights in every call. PyTorch's fused attention needs
AMX: without, it is no faster in bfloat16 than in float32, although a bfloat16 product is twice as fast.

On any CPU, the decoder's maps lie channels last (:func:`channels_last`).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn
from torch.overrides import TorchFunctionMode

from mm_ovseg.modeling.weight_versions import weight_versions

__all__ = ["CPULinear", "ChunkedAttention", "channels_last", "chunked_attention", "fast_attention", "use_cpu_kernels"]

QUERIES = 512  # at a time: their scores with 2305 keys take 2.4 MB
MIN_TOKENS = 1024  # with fewer, the fused kernel is as fast
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
HAS_AMX = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()


def use_cpu_kernels(module: nn.Module) -> None:
    """Replace the linear layers in a module, in place, by :class:`CPULinear`; names and parameters are kept."""
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            setattr(module, name, CPULinear.like(child))
        else:
            use_cpu_kernels(child)
    if isinstance(module, Mlp) and isinstance(module.act, nn.GELU) and module.act.approximate == "none":
        module.fc1 = CPULinear.like(module.fc1, gelu=True)
        module.act = nn.Identity()


class CPULinear(nn.Linear):
    """``nn.Linear``, optionally followed by GELU, with the same parameters and, up to rounding, the same results.

    Where gradients are recorded, in a graph, or on another device it is PyTorch's own layer.
    """

    gelu: bool = False

    @classmethod
    def like(cls, linear: nn.Linear, *, gelu: bool = False) -> "CPULinear":
        """Make a layer that shares its parameters with ``linear``."""
        layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        layer.gelu = gelu
        return layer.train(linear.training)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._kept: tuple[torch.Tensor, ...] = ()  # weight and bias in bfloat16
        self._kept_of: tuple | None = None  # the versions of their originals

    def train(self, mode: bool = True) -> "CPULinear":
        """Switch the mode, and forget what is kept."""
        self._kept, self._kept_of = (), None
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        if x.device.type != "cpu" or torch.is_grad_enabled() or _is_recorded():
            x = super().forward(x)
            return F.gelu(x) if self.gelu else x
        weights = self._onednn_weights(x)
        if weights is None:
            x = super().forward(x)
        else:
            weight, bias = weights
            if self.gelu and weight.dtype is torch.float32:
                return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")
            x = torch.ops.mkldnn._linear_pointwise(x.to(weight.dtype), weight, bias, "none", [], "")
        return torch.ops.aten.gelu_(x) if self.gelu else x  # in place, since nothing else sees this tensor

    def _onednn_weights(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Weight and bias for oneDNN; None if PyTorch's own layer is to run."""
        dtype = _compute_type(x)
        if not HAS_ONEDNN or dtype is not (torch.bfloat16 if HAS_AMX else torch.float32):
            return None
        return self._in_bfloat16() if HAS_AMX else (self.weight, self.bias)

    def _in_bfloat16(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias in bfloat16, kept as long as the parameters do not change."""
        versions = weight_versions(self)
        if versions is None or versions != self._kept_of:
            self._kept = tuple(p if p is None else p.detach().to(torch.bfloat16) for p in (self.weight, self.bias))
            self._kept_of = versions
        return self._kept


def channels_last(maps: torch.Tensor) -> torch.Tensor:
    """Maps (N, C, H, W), for inference on a CPU laid out as (N, H, W, C): oneDNN then convolves without reordering."""
    if maps.device.type != "cpu" or torch.is_grad_enabled() or _is_recorded():
        return maps
    return maps.contiguous(memory_format=torch.channels_last)


def fast_attention(images: torch.Tensor) -> AbstractContextManager:
    """The context for an encoder's blocks: :class:`ChunkedAttention` where it may be faster, else a null context."""
    may_gain = images.device.type == "cpu" and not HAS_AMX and not torch.is_grad_enabled()
    return ChunkedAttention() if may_gain and _compute_type(images) is torch.bfloat16 else nullcontext()


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
            function = _attention_in_bfloat16
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


def _attention_in_bfloat16(
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
    if query.device.type != "cpu" or _is_recorded():
        return False
    return (
        _compute_type(query) is torch.bfloat16
        and min(query.shape[2], key.shape[2]) >= MIN_TOKENS
        and attn_mask is None
        and dropout_p == 0.0
        and not (is_causal or enable_gqa)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value)))
    )


def _is_recorded() -> bool:
    """Whether operations are recorded into a graph."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _compute_type(x: torch.Tensor) -> torch.dtype:
    """The type in which PyTorch would multiply ``x``, on a CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
