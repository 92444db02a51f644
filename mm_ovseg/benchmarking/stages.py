"""What a forward pass spends in each of its stages, be it seconds or floating-point operations."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mm_ovseg.benchmarking.machine import synchronize

__all__ = ["StageTrace", "count_flops", "time_stages"]

# Modules and their stages. What runs in none of them is "other": the text's cache, enlarging the logits, the sigmoid.
STAGES = {
    "": "other",
    "clip": "clip",
    "clip_sar": "clip_sar",
    "dino": "dino_rgb",
    "dino_sar": "dino_sar",
    "sem_seg_head": "fusion",  # the head without the next two: cost volumes and their embedding
    "sem_seg_head.aggregator": "aggregator",
    "sem_seg_head.decoder": "decoder",
}


class StageTrace:
    """Splits a quantity that only grows among the stages of a model, by hooks on the stages' modules.

    A stage inside another is taken out of it, and calls of the same stage add up, so that the parts sum to the whole.

    with StageTrace(model, time.perf_counter) as trace:
        model(pairs)
    seconds = trace.split(lambda start, end: end - start)

    Args:
        model: an ``MMOVSeg``.
        read: the quantity's value now.
    """

    def __init__(self, model: nn.Module, read: Callable[[], Any]) -> None:
        modules = dict(model.named_modules())
        self._modules = {stage: modules[name] for name, stage in STAGES.items() if name in modules}
        self._read = read
        self._running: list[str] = []
        self._readings: list[tuple[str | None, Any]] = []  # the stage that goes on from here, and the value
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "StageTrace":
        for stage, module in self._modules.items():
            self._hooks.append(module.register_forward_pre_hook(self._entering(stage)))
            self._hooks.append(module.register_forward_hook(self._leave))
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def split(self, difference: Callable[[Any, Any], float]) -> dict[str, float]:
        """Each stage's part.

        Args:
            difference: of two values, the earlier one first.
        """
        parts = dict.fromkeys(self._modules, 0.0)
        for (stage, start), (_, end) in zip(self._readings, self._readings[1:], strict=False):
            if stage is not None:
                parts[stage] += difference(start, end)
        # In the order of the computation, "other" last.
        return {**{stage: part for stage, part in parts.items() if stage != "other"}, "other": parts["other"]}

    def _entering(self, stage: str) -> Callable[..., None]:
        def enter(*_: object) -> None:
            self._running.append(stage)
            self._readings.append((stage, self._read()))

        return enter

    def _leave(self, *_: object) -> None:
        self._running.pop()
        self._readings.append((self._running[-1] if self._running else None, self._read()))


def time_stages(model: nn.Module, run: Callable[[], object], device: torch.device) -> tuple[float, dict[str, float]]:
    """Run once; returns the seconds of all and of each stage."""
    # Events let a CUDA device work on while the next kernels are queued; waiting at every stage would slow it down.
    read, difference = (_cuda_event, _cuda_seconds) if device.type == "cuda" else (_now, lambda start, end: end - start)
    with StageTrace(model, lambda: read(device)) as trace:
        start = _now(device)
        run()
        seconds = _now(device) - start
    return seconds, trace.split(difference)


def count_flops(model: nn.Module, run: Callable[[], object]) -> tuple[int, dict[str, float]]:
    """Run once; returns the floating-point operations of all and of each stage, a multiply-add counted as two.

    Matrix products, convolutions and attention are counted; what is done element by element is not.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    # Compiled code would pass the counter by.
    with torch.compiler.set_stance("force_eager"), counter, StageTrace(model, counter.get_total_flops) as trace:
        run()
    return counter.get_total_flops(), trace.split(lambda start, end: end - start)


def _formulas() -> dict[Any, Callable[..., int]]:
    """FLOPs of the operators that PyTorch's counter lacks and this version of PyTorch has."""
    candidates = (
        (torch.ops.mkldnn, "_linear_pointwise", _linear_flops),
        (torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", _attention_flops),
        (torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", _attention_backward_flops),
        (torch.ops.aten, "_scaled_dot_product_attention_math_for_mps", _attention_flops),
    )
    formulas = {}
    for namespace, name, formula in candidates:
        if hasattr(namespace, name):
            formulas[getattr(namespace, name)] = formula
    return formulas


def _linear_flops(x_shape: torch.Size, *_: object, out_shape: torch.Size, **__: object) -> int:
    return 2 * math.prod(out_shape) * x_shape[-1]


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward_flops(
    grad_out: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object
) -> int:
    return sdpa_backward_flop_count(grad_out, query, key, value)


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.perf_counter()


def _cuda_event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _cuda_seconds(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    return start.elapsed_time(end) / 1000  # of milliseconds
