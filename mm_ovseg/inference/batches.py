"""Batches that fit into the memory of the model's device."""

import logging
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Generic, TypeVar

import torch

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem

__all__ = ["BatchRunner", "check_batch_size"]

logger = logging.getLogger(__name__)

Item = TypeVar("Item", dict, EncodedItem)
Result = TypeVar("Result")

# Of errors that have no type of their own: from the allocators of CPU and MPS, and from libraries of CUDA.
MESSAGES = ("can't allocate memory", "not enough memory", "MPS backend out of memory", "_STATUS_ALLOC_FAILED")


def check_batch_size(batch_size: Any) -> None:
    """Check the number of items per batch.

    Raises:
        ConfigError: it is not a positive whole number.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ConfigError(f"The batch size is {batch_size}; give a positive whole number.")


class BatchRunner(Generic[Item, Result]):
    """Calls a model; halves and retries a batch that does not fit into memory, and keeps to the smaller size.

    Args:
        model: the model or a part of it: takes a list of items, encoded or not, and returns one result for each, which,
            except for rounding, does not depend on the other items in its batch.
    """

    def __init__(self, model: Callable[[list[Item]], list[Result]]) -> None:
        self._model = model
        self._max_items: int | None = None  # None: no batch has been too large so far

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """The results of the items, in order.

        Raises:
            ConfigError: not even a single item fits.
        """
        results: list[Result] = []
        while len(results) < len(items):
            batch = list(items[len(results) : len(results) + (self._max_items or len(items))])
            try:
                results += self._model(batch)
                continue
            except (torch.OutOfMemoryError, MemoryError):
                pass
            except RuntimeError as error:
                if not any(message in str(error) for message in MESSAGES):
                    raise
            # Here, where the error and the tensors of the failed attempt have been freed.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(batch) == 1:
                item = batch[0]
                height, width = item.image_size if isinstance(item, EncodedItem) else item["image"].shape[1:]
                raise ConfigError(
                    f"Memory does not hold one image of {width}x{height} pixels with this model; take a smaller "
                    "--window for scenes, fewer class names or another MODEL.DEVICE, or free memory."
                )
            self._max_items = len(batch) // 2
            logger.warning("A batch of %d does not fit into memory; using batches of %d.", len(batch), self._max_items)
        return results
