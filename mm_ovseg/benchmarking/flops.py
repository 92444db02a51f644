"""Floating-point operations by two counters, and what lies between their answers.

fvcore reads a trace of the model, where it counts a multiply-add as one, and normalisation and the enlarging of images
too; of fused attention it knows nothing. PyTorch's counter watches the operators that run, where it counts a
multiply-add as two, and matrix products, convolutions and attention alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import norm_flop_counter
from torch import nn
from torch.utils._pytree import tree_leaves

from mm_ovseg.benchmarking.stages import count_flops

__all__ = ["FlopCounts", "compare_flop_counts"]

# fvcore's names of what is a sum of products; the rest that it counts is done element by element.
PRODUCTS = ("addmm", "bmm", "conv", "einsum", "linear", "matmul", "mm")
ATTENTION = "attention"
AFFINE_ARGUMENT = 2  # the place of the weight among layer_norm's arguments
_count_norm = norm_flop_counter(AFFINE_ARGUMENT)


@dataclass(frozen=True)
class FlopCounts:
    """What the two counters say of a forward pass.

    Attributes:
        fvcore: its answer, in its own unit.
        fvcore_products: the part of it that counts multiply-adds, of products and convolutions.
        fvcore_elementwise: the other part, of normalisation and enlarging.
        attention: multiply-adds of fused attention, which fvcore leaves out.
        torch: the answer of PyTorch's counter, which counts a multiply-add as two.
    """

    fvcore: float
    fvcore_products: float
    fvcore_elementwise: float
    attention: float
    torch: float

    @property
    def reconciled(self) -> float:
        """Fvcore's products and the attention, a multiply-add counted as two: what ``torch`` should be."""
        return 2 * (self.fvcore_products + self.attention)

    def per_pair(self, pairs: int) -> "FlopCounts":
        """The same for one of so many pairs."""
        return FlopCounts(**{name: count / pairs for name, count in asdict(self).items()})


@torch.no_grad()
def compare_flop_counts(model: nn.Module, batch: Sequence[dict[str, torch.Tensor]]) -> FlopCounts:
    """Count a forward pass of a model in evaluation mode by both counters.

    Args:
        model: an ``MMOVSeg``, whose text embeddings are cached already, or a ``CrossModalUnification``.
        batch: pairs with ``image`` and ``sar_image`` alone.
    """
    torch_count, _ = count_flops(model, lambda: model(batch))
    analysis = FlopCountAnalysis(_OfTensors(model, batch), tuple(tree_leaves(batch)))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_products)
    analysis.set_op_handle("aten::layer_norm", _norm_operations)
    counts = analysis.by_operator()
    attention = counts.pop(ATTENTION, 0)
    products = sum(counts.get(name, 0) for name in PRODUCTS)
    total = sum(counts.values())
    return FlopCounts(
        fvcore=float(total),
        fvcore_products=float(products),
        fvcore_elementwise=float(total - products),
        attention=float(attention),
        torch=float(torch_count),
    )


class _OfTensors(nn.Module):
    """A model as a function of tensors alone, which is what can be traced."""

    def __init__(self, model: nn.Module, batch: Sequence[dict[str, torch.Tensor]]) -> None:
        super().__init__()
        self.model = model
        self.keys = [tuple(item) for item in batch]

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The model's outputs, one after the other."""
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
    """As fvcore counts them; it stops at a single token, of which the class attention's padding is one."""
    return _count_norm(inputs, outputs) if len(_shape(inputs[0])) > 1 else Counter()
