"""One optimiser step: mixed precision, gradient accumulation, clipping, and an error if the loss is not finite."""

import contextlib
import time
from collections.abc import Iterable

import torch
from detectron2.engine import SimpleTrainer
from torch import nn

from mm_ovseg.choices import check_choice
from mm_ovseg.errors import ConfigError, TrainingError

__all__ = ["AccumulatingTrainer", "unwrap"]

AUTOCAST_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, without its DistributedDataParallel wrapper."""
    return model.module if hasattr(model, "module") else model


class AccumulatingTrainer(SimpleTrainer):
    """Detectron2's training loop for any device; its own AMP loop supports only CUDA.

    Args:
        model: returns a dict of losses for a batch. Its method ``after_optimizer_step()``, if any, is called then.
        data_loader: an endless iterable of batches.
        optimizer: steps once per ``accumulation_steps`` batches.
        accumulation_steps: number of batches whose gradients are averaged.
        max_gradient_norm: maximum L2 norm of the full model's gradient; None: unlimited.
        autocast_dtype: ``"bfloat16"``, ``"float16"`` (with loss scaling) or None for float32.
        device_type: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        accumulation_steps: int,
        max_gradient_norm: float | None,
        autocast_dtype: str | None,
        device_type: str,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        if accumulation_steps < 1:
            raise ConfigError(f"SOLVER.ACCUMULATION_STEPS is {accumulation_steps}; it must be at least 1.")
        if autocast_dtype is not None:
            check_choice("SOLVER.AMP.DTYPE", autocast_dtype, AUTOCAST_DTYPES)
        self.accumulation_steps = accumulation_steps
        self.max_gradient_norm = max_gradient_norm
        self.autocast_dtype = AUTOCAST_DTYPES.get(autocast_dtype)
        self.device_type = device_type
        self.grad_scaler = torch.amp.GradScaler(device_type, enabled=self.autocast_dtype is torch.float16)

    def run_step(self) -> None:
        """Run one optimiser step.

        Raises:
            TrainingError: the loss is not finite; the message names the batch's files.
        """
        self.optimizer.zero_grad()
        data_time = 0.0
        sums: dict[str, torch.Tensor] = {}
        for step in range(self.accumulation_steps):
            start = time.perf_counter()
            batch = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            is_last = step == self.accumulation_steps - 1
            # Gradients are synchronised once, with the last batch.
            wait = contextlib.nullcontext() if is_last or not hasattr(self.model, "no_sync") else self.model.no_sync()
            with wait:
                losses = self._losses(batch)
                self.grad_scaler.scale(sum(losses.values()) / self.accumulation_steps).backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach() / self.accumulation_steps
        self._write_metrics(sums, data_time)
        self.grad_scaler.unscale_(self.optimizer)
        if self.max_gradient_norm is not None:
            parameters = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
            nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        model = unwrap(self.model)
        if hasattr(model, "after_optimizer_step"):
            model.after_optimizer_step()

    def _losses(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        with torch.autocast(self.device_type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            losses = self.model(batch)
        if not all(torch.isfinite(loss).item() for loss in losses.values()):
            values = ", ".join(f"{name} {loss.item()}" for name, loss in losses.items())
            files = ", ".join(str(item.get("file_name", "?")) for item in batch)
            raise TrainingError(
                f"The loss is not finite at iteration {self.iter} ({values}) on the batch {files}; "
                "check these files, or lower SOLVER.BASE_LR."
            )
        return losses

    def state_dict(self) -> dict:
        """The state to resume from: the optimiser's and the loss scaler's."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state of :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
