"""The time, or the floating-point operations, of the stages of a forward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mm_ovseg.efficiency.flops import flop_counter
from mm_ovseg.efficiency.timer import now

# Modules and their stages. Everything else is "other": what the head prepares for each image, the text cache, sigmoid,
# resizing of the scores.
STAGES = {
    "": "other",
    "clip": "clip",
    "clip_sar": "clip_sar",
    "dino": "dino_rgb",
    "dino_sar": "dino_sar",
    "sem_seg_head": "fusion",  # the head without the next two stages: cost volumes and their embedding
    "sem_seg_head.aggregator": "aggregator",
    "sem_seg_head.decoder": "decoder",
}


class StageTrace:
    """Splits a growing quantity among the stages of a model, by hooks on the modules of the stages.

    A stage inside another is subtracted from it, and calls of the same stage add up, so the parts sum to the whole.

    with StageTrace(model, time.perf_counter) as trace:
        model(pairs)
    seconds = trace.split(lambda start, end: end - start)

    Args:
        model: an ``MMOVSeg``.
        read: returns the current value of the quantity.
        stages: module names and their stages.

    Attributes:
        readings: the stage that starts or continues (or None) and the value, in order of events.
    """

    def __init__(self, model: nn.Module, read: Callable[[], Any], stages: Mapping[str, str] = STAGES) -> None:
        modules = dict(model.named_modules())
        self._modules = {stage: modules[name] for name, stage in stages.items() if name in modules}
        self._read = read
        self._running: list[str] = []
        self.readings: list[tuple[str | None, Any]] = []

    def __enter__(self) -> "StageTrace":
        def enter(stage: str) -> None:
            self._running.append(stage)
            self.readings.append((stage, self._read()))

        def leave(*_: object) -> None:
            self._running.pop()
            self.readings.append((self._running[-1] if self._running else None, self._read()))

        self._hooks = [
            hook
            for stage, module in self._modules.items()
            for hook in (
                module.register_forward_pre_hook(lambda *_, stage=stage: enter(stage)),
                module.register_forward_hook(leave),
            )
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def split(self, difference: Callable[[Any, Any], float]) -> dict[str, float]:
        """The part of each stage, in the order of computation, "other" last.

        Args:
            difference: of two values, the earlier one first.
        """
        parts = dict.fromkeys(self._modules, 0.0)
        for (stage, start), (_, end) in zip(self.readings, self.readings[1:], strict=False):
            if stage is not None:
                parts[stage] += difference(start, end)
        parts["other"] = parts.pop("other")
        return parts


class TimeTrace(StageTrace):
    """Splits the time of a forward pass on a device."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        # Events, unlike synchronisation after every stage, let the device work while the next kernels are queued.
        self._has_events = device.type == "cuda"
        super().__init__(model, lambda: _cuda_event(device) if self._has_events else now(device))

    def seconds(self) -> dict[str, float]:
        """The part of each stage, once the device has finished its work."""
        if self._has_events:
            return self.split(lambda start, end: start.elapsed_time(end) / 1000)
        return self.split(lambda start, end: end - start)


def _cuda_event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def count_stage_flops(model: nn.Module, run: Callable[[], object]) -> tuple[int, dict[str, float]]:
    """The operations of one run, and of each stage in it."""
    with flop_counter() as counter, StageTrace(model, counter.get_total_flops) as trace:
        run()
    return counter.get_total_flops(), trace.split(lambda start, end: end - start)
