"""Batches of as many items as the memory of the model's device holds."""

import logging
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch

from mm_ovseg.errors import ConfigError

__all__ = ["BatchRunner", "check_batch_size"]

logger = logging.getLogger(__name__)

# How the allocator of the CPU says it, in an error of no type of its own.
CPU_MESSAGES = ("can't allocate memory", "not enough memory")


def check_batch_size(batch_size: Any) -> None:
    """Check a number of items that go through a model together.

    Raises:
        ConfigError: it is not a positive whole number.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ConfigError(f"The batch size is {batch_size}; give a positive whole number.")


class BatchRunner:
    """Calls a model; a batch that memory does not hold is halved and tried again, and later ones are no larger.

    Args:
        model: takes a list of dicts, and gives one result each, which does not depend on the others in its batch but
            for rounding.
    """

    def __init__(self, model: Callable[[list[dict]], list[dict]]) -> None:
        self._model = model
        self._most: int | None = None  # items that fit; None: no batch was too large so far

    def __call__(self, items: Sequence[dict]) -> list[dict]:
        """The results of the items, in their order.

        Raises:
            ConfigError: not even one item fits.
        """
        results: list[dict] = []
        while len(results) < len(items):
            batch = list(items[len(results) : len(results) + (self._most or len(items))])
            outputs = self._attempt(batch)
            if outputs is not None:
                results += outputs
                continue
            # Here, where the error, and with it the tensors of the failed attempt, are gone.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(batch) == 1:
                _, height, width = batch[0]["image"].shape
                raise ConfigError(
                    f"Memory does not hold one image of {width}x{height} pixels with this model; take a smaller "
                    "--window for scenes, fewer class names, another MODEL.DEVICE, or end what else uses the memory."
                )
            self._most = len(batch) // 2
            logger.warning("Memory does not hold a batch of %d; it goes on with %d at a time.", len(batch), self._most)
        return results

    def _attempt(self, batch: list[dict]) -> list[dict] | None:
        """The results; None where memory ran out."""
        try:
            return self._model(batch)
        except (torch.OutOfMemoryError, MemoryError):
            return None
        except RuntimeError as error:
            if not any(message in str(error) for message in CPU_MESSAGES):
                raise
            return None
