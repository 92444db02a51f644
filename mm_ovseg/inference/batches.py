"""What the model takes of a pair or window, in batches as large as the memory of its device holds."""

import logging
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.data.mappers import image_tensor
from mm_ovseg.errors import ConfigError

__all__ = ["BatchRunner", "check_batch_size", "model_item"]

logger = logging.getLogger(__name__)

# Of the CPU's allocator, whose errors have no type of their own.
CPU_MESSAGES = ("can't allocate memory", "not enough memory")


def check_batch_size(batch_size: Any) -> None:
    """Check a number of items that go through a model together.

    Raises:
        ConfigError: it is not a positive whole number.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ConfigError(f"The batch size is {batch_size}; give a positive whole number.")


def model_item(sample: PairSample) -> dict[str, torch.Tensor | None]:
    """The images, float32 (3, H, W), and masks, bool (H, W), of a pair, as the model takes them."""
    images = {"image": sample.image, "sar_image": sample.sar_image}
    masks = {"image_valid": sample.image_valid, "sar_valid": sample.sar_valid}
    return {
        **{key: None if image is None else image_tensor(image) for key, image in images.items()},
        **{key: None if mask is None else torch.from_numpy(np.ascontiguousarray(mask)) for key, mask in masks.items()},
    }


class BatchRunner:
    """Calls a model; a batch that memory does not hold is halved and tried again, and later ones are no larger.

    Args:
        model: takes a list of dicts, and gives one result each, which does not depend on the others in its batch but
            for rounding.
    """

    def __init__(self, model: Callable[[list[dict]], list[dict]]) -> None:
        self._model = model
        self._max_items: int | None = None  # that fit; None: no batch was too large so far

    def __call__(self, items: Sequence[dict]) -> list[dict]:
        """The results of the items, in their order.

        Raises:
            ConfigError: not even one item fits.
        """
        results: list[dict] = []
        while len(results) < len(items):
            batch = list(items[len(results) : len(results) + (self._max_items or len(items))])
            try:
                results += self._model(batch)
                continue
            except (torch.OutOfMemoryError, MemoryError):
                pass
            except RuntimeError as error:
                if not any(message in str(error) for message in CPU_MESSAGES):
                    raise
            # Here, where the error, and with it the tensors of the failed attempt, are gone.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(batch) == 1:
                _, height, width = batch[0]["image"].shape
                raise ConfigError(
                    f"Memory does not hold one image of {width}x{height} pixels with this model; take a smaller "
                    "--window for scenes, fewer class names or another MODEL.DEVICE, or free memory."
                )
            self._max_items = len(batch) // 2
            logger.warning("Memory does not hold a batch of %d; using batches of %d.", len(batch), self._max_items)
        return results
