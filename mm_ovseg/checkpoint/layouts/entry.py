"""The words that layouts are written in.

A layout is a dict from released names to :class:`Entry`. It is put together from parts, as the models are: each part
is described under names of its own, and :func:`placed` puts it where it lies in the whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

__all__ = ["Entry", "Layout", "affine", "derive", "drop", "keep", "placed", "repeated", "same"]


@dataclass(frozen=True)
class Entry:
    """One released tensor.

    Attributes:
        shape: as released; None where it is dropped, and may then be anything, or absent.
        targets: names of ours that it becomes; none where it is dropped.
        derive: how it becomes them, one tensor a target; None: unchanged, for one target.
        reason: why it is dropped, or what ``derive`` does.
    """

    shape: tuple[int, ...] | None
    targets: tuple[str, ...] = ()
    derive: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] | None = None
    reason: str = ""


Layout = dict[str, Entry]


def keep(source: str, target: str, *shape: int) -> Layout:
    """One tensor that at most changes its name."""
    return {source: Entry(shape, (target,))}


def derive(
    source: str,
    targets: tuple[str, ...],
    *shape: int,
    by: Callable[[torch.Tensor], tuple[torch.Tensor, ...]],
    reason: str,
) -> Layout:
    """One tensor that is computed into others."""
    return {source: Entry(shape, targets, by, reason)}


def drop(source: str, reason: str) -> Layout:
    """One tensor that our models have no place for."""
    return {source: Entry(None, reason=reason)}


def affine(source: str, target: str, *shape: int, bias: int | None = None) -> Layout:
    """A layer's weight and bias; ``bias`` is its length where that is not the weight's first axis."""
    weight = keep(f"{source}.weight", f"{target}.weight", *shape)
    return weight | keep(f"{source}.bias", f"{target}.bias", shape[0] if bias is None else bias)


def same(name: str, *shape: int) -> Layout:
    """As :func:`affine`, for a layer that keeps its name."""
    return affine(name, name, *shape)


def placed(layout: Layout, source: str, target: str) -> Layout:
    """The layout with prefixes before the released names and before ours."""
    return {
        source + name: replace(entry, targets=tuple(target + name for name in entry.targets))
        for name, entry in layout.items()
    }


def repeated(layout: Layout, name: str, count: int) -> Layout:
    """The layout of a block, for ``count`` blocks under ``name.0.``, ``name.1.``, ... in both namings."""
    blocks: Layout = {}
    for index in range(count):
        blocks |= placed(layout, f"{name}.{index}.", f"{name}.{index}.")
    return blocks
