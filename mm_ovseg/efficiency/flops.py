"""Floating-point operations by two counters, and why their results differ.

fvcore reads a trace of the model. It counts a multiply-add as one operation, includes normalisation and interpolation,
and does not support fused attention. PyTorch's counter observes the operators that run. It counts a multiply-add as two
operations, and counts only matrix products, convolutions and attention.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import norm_flop_counter
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

__all__ = ["compare_flop_counts", "flop_counter", "released_tflop"]

# Operators that fvcore counts in multiply-adds; all others are element-wise.
PRODUCTS = ("addmm", "bmm", "conv", "einsum", "linear", "matmul", "mm")
ATTENTION = "attention"
# TFLOP of the released model for one pair with 5 classes: ViT-B/16 at 384 pixels, DINO ViT-B/8 and its SAR twin.
RELEASED_TFLOP, RELEASED_CLASSES = 1.386, 5

_count_norm = norm_flop_counter(2)  # the weight is layer_norm's third argument


@contextmanager
def flop_counter() -> Iterator[FlopCounterMode]:
    """PyTorch's counter, extended to all operators of our models, compiled or not."""
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    with torch.compiler.set_stance("force_eager"), counter:  # compiled code would bypass the counter
        yield counter


@torch.no_grad()
def compare_flop_counts(model: nn.Module, batch: Sequence[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Count the operations of a forward pass in evaluation mode by both counters.

    Args:
        model: of either stage, or a baseline, with cached text embeddings.
        batch: pairs with only ``image`` and ``sar_image``.

    Returns:
        Operations per pair: ``fvcore``, its result, which is the sum of ``fvcore_products`` (multiply-adds) and
        ``fvcore_elementwise``; ``attention``, the multiply-adds of fused attention; ``torch``, the result of PyTorch's
        counter; ``reconciled``, twice the multiply-adds of products and attention, which should equal ``torch``.
    """
    with flop_counter() as counter:
        model(batch)
    analysis = FlopCountAnalysis(_TensorsOnly(model, batch), tuple(tree_leaves(batch)))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_products)
    analysis.set_op_handle("aten::layer_norm", _norm_operations)
    operators = analysis.by_operator()
    attention = operators.pop(ATTENTION, 0)
    products = sum(operators.get(name, 0) for name in PRODUCTS)
    total = sum(operators.values())
    counts = {
        "fvcore": total,
        "fvcore_products": products,
        "fvcore_elementwise": total - products,
        "attention": attention,
        "torch": counter.get_total_flops(),
        "reconciled": 2 * (products + attention),
    }
    return {name: float(count) / len(batch) for name, count in counts.items()}


def released_tflop(cfg: CfgNode, classes: int) -> float | None:
    """TFLOP of the released implementation's forward pass of one pair, or None if unknown."""
    model = cfg.MODEL
    is_released = (
        model.CLIP.NAME in ("ViT-B-16", "ViT-B-16-quickgelu")
        and model.DENSE_ENCODER.ENABLED
        and model.DENSE_ENCODER.NAME.startswith("vit_base_patch8")
        and not model.DENSE_ENCODER.ARGUMENTS
        and model.CLIP.IMAGE_SIZE == model.DENSE_ENCODER.IMAGE_SIZE == 384
        and model.DENSE_ENCODER_SAR.ENABLED
        and not model.CLIP_SAR.ENABLED
    )
    return RELEASED_TFLOP if is_released and classes == RELEASED_CLASSES else None


class _TensorsOnly(nn.Module):
    """A model with tensors as arguments, so that it can be traced.

    Detectron2's TracingAdapter does this too, but imports Caffe2 in release 0.6.
    """

    def __init__(self, model: nn.Module, batch: Sequence[dict[str, torch.Tensor]]) -> None:
        super().__init__()
        self.model = model
        self.keys = [tuple(item) for item in batch]

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        remaining = iter(tensors)
        batch = [{key: next(remaining) for key in keys} for keys in self.keys]
        return tuple(tree_leaves(self.model(batch)))


def _shape(value: Any) -> list[int]:
    return value.type().sizes()


def _attention_products(inputs: list[Any], _outputs: list[Any]) -> Counter:
    """Multiply-adds of queries (..., N, D) with keys (..., M, D), and of the weights with values (..., M, E)."""
    query, key, value = (_shape(tensor) for tensor in inputs[:3])
    return Counter({ATTENTION: math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])})


def _norm_operations(inputs: list[Any], outputs: list[Any]) -> Counter:
    # fvcore's function fails on a single token, such as the padding of the class attention.
    return _count_norm(inputs, outputs) if len(_shape(inputs[0])) > 1 else Counter()


def _formulas() -> dict[Any, Callable[..., int]]:
    """FLOP functions for operators of this PyTorch version that its counter does not support."""

    def linear(x_shape: torch.Size, *_: object, out_shape: torch.Size, **__: object) -> int:
        return 2 * math.prod(out_shape) * x_shape[-1]

    def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    def attention_backward(*shapes: Any, **_: object) -> int:
        return sdpa_backward_flop_count(*shapes[:4])  # gradient, query, key, value

    candidates = (
        (torch.ops.mkldnn, "_linear_pointwise", linear),
        (torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", attention),
        (torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", attention_backward),
        (torch.ops.aten, "_scaled_dot_product_attention_math_for_mps", attention),
    )
    return {getattr(space, name): formula for space, name, formula in candidates if hasattr(space, name)}
