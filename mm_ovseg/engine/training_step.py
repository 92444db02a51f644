"""One optimiser step: mixed precision, gradient accumulation, clipping, and no step that is not finite."""

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mm_ovseg.choices import check_choice
from mm_ovseg.errors import ConfigError, TrainingError

__all__ = ["AccumulatingTrainer", "step_arguments", "unwrap"]

AUTOCAST_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

logger = logging.getLogger(__name__)


def step_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Arguments of :class:`AccumulatingTrainer` from ``SOLVER`` and ``MODEL.DEVICE``."""
    solver, clipping = cfg.SOLVER, cfg.SOLVER.CLIP_GRADIENTS
    return {
        "accumulation_steps": solver.ACCUMULATION_STEPS,
        "max_gradient_norm": clipping.CLIP_VALUE if clipping.ENABLED and clipping.CLIP_TYPE == "full_model" else None,
        "norm_type": clipping.NORM_TYPE,
        "autocast_dtype": solver.AMP.DTYPE if solver.AMP.ENABLED else None,
        "device_type": torch.device(cfg.MODEL.DEVICE).type,
        "max_skipped_steps": solver.MAX_SKIPPED_STEPS,
    }


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, without its DistributedDataParallel wrapper."""
    return model.module if isinstance(model, DistributedDataParallel) else model


class AccumulatingTrainer(SimpleTrainer):
    """Detectron2's training loop for any device; its own AMP loop supports only CUDA.

    A step whose gradients are not finite is skipped in all processes, so that the weights stay as they are, and the
    files of its batch are logged. Some skipped steps are normal in float16, whose loss scale has to find its size.

    Args:
        model: returns a dict of losses for a batch. Its method ``after_optimizer_step()``, if any, is called then.
        data_loader: an endless iterable of batches.
        optimizer: steps once per ``accumulation_steps`` batches.
        accumulation_steps: number of batches whose gradients are averaged.
        max_gradient_norm: maximum norm of the full model's gradient; None: unlimited.
        norm_type: p of that p-norm, > 0; ``inf`` for the largest component.
        autocast_dtype: ``"bfloat16"``, ``"float16"`` (with loss scaling) or None for float32.
        device_type: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        max_skipped_steps: steps in a row that may be skipped before training stops.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        accumulation_steps: int,
        max_gradient_norm: float | None,
        norm_type: float = 2.0,
        autocast_dtype: str | None,
        device_type: str,
        max_skipped_steps: int = 20,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        if accumulation_steps < 1:
            raise ConfigError(f"SOLVER.ACCUMULATION_STEPS is {accumulation_steps}; it must be at least 1.")
        if max_skipped_steps < 0:
            raise ConfigError(f"SOLVER.MAX_SKIPPED_STEPS is {max_skipped_steps}; it must be at least 0.")
        if autocast_dtype is not None:
            check_choice("SOLVER.AMP.DTYPE", autocast_dtype, AUTOCAST_DTYPES)
        self.accumulation_steps = accumulation_steps
        self.max_gradient_norm = math.inf if max_gradient_norm is None else max_gradient_norm
        self.norm_type = norm_type
        self.autocast_dtype = AUTOCAST_DTYPES.get(autocast_dtype)
        self.device_type = device_type
        self.max_skipped_steps = max_skipped_steps
        self.grad_scaler = torch.amp.GradScaler(device_type, enabled=self.autocast_dtype is torch.float16)
        self._skipped_in_a_row = 0

    def run_step(self) -> None:
        """Run one optimiser step, or skip it.

        Raises:
            TrainingError: a loss is not finite, or too many steps in a row were skipped; the message names the files of
                the batch. No weight has changed then.
        """
        self.optimizer.zero_grad()
        data_time = 0.0
        sums: dict[str, torch.Tensor] = {}
        files: list[str] = []
        for step in range(self.accumulation_steps):
            start = time.perf_counter()
            batch = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            files += [str(item.get("file_name", "?")) for item in batch]
            # Gradients are synchronised once, with the last batch.
            synchronised = step == self.accumulation_steps - 1 or not isinstance(self.model, DistributedDataParallel)
            with contextlib.nullcontext() if synchronised else self.model.no_sync():
                with torch.autocast(
                    self.device_type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None
                ):
                    losses = self.model(batch)
                self.grad_scaler.scale(sum(losses.values()) / self.accumulation_steps).backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach() / self.accumulation_steps
        self.grad_scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm, self.norm_type)
        norm_is_finite, loss_is_finite = torch.stack([norm, sum(sums.values())]).isfinite().tolist()  # one device sync
        if not norm_is_finite:  # in all processes, which have the same gradients
            self._skip_step(sums, files)
        elif not loss_is_finite:
            raise TrainingError(self._loss_message(sums, files))
        self._write_metrics(sums, data_time)
        if norm_is_finite:
            self._skipped_in_a_row = 0
            self.grad_scaler.step(self.optimizer)
            model = unwrap(self.model)
            if hasattr(model, "after_optimizer_step"):
                model.after_optimizer_step()
        self.grad_scaler.update()

    def _skip_step(self, losses: dict[str, torch.Tensor], files: Sequence[str]) -> None:
        """Say why the step is skipped, which all processes do; after too many, stop."""
        finite = all(loss.isfinite().item() for loss in losses.values())
        all_finite, files_of_all = zip(*comm.all_gather((finite, files)), strict=True)
        if not finite:
            raise TrainingError(self._loss_message(losses, files))
        if not all(all_finite):
            comm.synchronize()  # with a process that says why and ends, and the others with it
        self._skipped_in_a_row += 1
        named = ", ".join(name for part in files_of_all for name in part)
        if self._skipped_in_a_row > self.max_skipped_steps:
            raise TrainingError(
                f"The gradients are not finite at iteration {self.iter}, on the batch {named}; this is step "
                f"{self._skipped_in_a_row} in a row, and SOLVER.MAX_SKIPPED_STEPS is {self.max_skipped_steps}. The "
                "weights are those of the last finite step; lower SOLVER.BASE_LR, or train in float32 or bfloat16."
            )
        scale = f" (loss scale {self.grad_scaler.get_scale():g})" if self.grad_scaler.is_enabled() else ""
        logger.warning(
            "Iteration %d is skipped, since its gradients are not finite%s, on the batch %s.", self.iter, scale, named
        )

    def _loss_message(self, losses: dict[str, torch.Tensor], files: Sequence[str]) -> str:
        values = ", ".join(f"{name} {loss.item()}" for name, loss in losses.items())
        return (
            f"The loss is not finite at iteration {self.iter} ({values}) on the batch {', '.join(files)}; check these "
            "files, or lower SOLVER.BASE_LR."
        )

    def state_dict(self) -> dict:
        """The state to resume from: the optimiser's and the loss scaler's."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state of :meth:`state_dict`; of a run without loss scaling, the scale keeps its initial value."""
        super().load_state_dict(state_dict)
        if state_dict["grad_scaler"]:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
