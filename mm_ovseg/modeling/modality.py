"""What each pixel's answer rests on, depending on where RGB and SAR have data, and which pairs lack one of them."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from mm_ovseg.errors import DataError

__all__ = ["ANSWERS", "BOTH", "RGB_ALONE", "SAR_ALONE", "answer_masks", "has_data", "replace_where"]

RGB_ALONE, SAR_ALONE, BOTH = "RGB alone", "SAR alone", "RGB and SAR"
ANSWERS = (RGB_ALONE, SAR_ALONE, BOTH)  # in the order of their computation: an explanation keeps the last one


def answer_masks(item: Mapping) -> dict[str, torch.Tensor]:
    """The answers that a batch item needs, and the pixels for which each is.

    Args:
        item: with ``image`` (3, H, W) and ``sar_image``, which may be None; ``image_valid`` and ``sar_valid``, bool
            (H, W), are their valid masks, by default all True.

    Returns:
        Members of ``ANSWERS``, at least one, -> bool (H, W). Pixels without any data need no answer.

    Raises:
        DataError: a mask and the image differ in size.
    """
    rgb, sar = _mask(item, "image_valid"), _mask(item, "sar_valid")
    if "sar_image" in item and item["sar_image"] is None:
        sar = torch.zeros_like(sar)
    masks = {RGB_ALONE: rgb & ~sar, SAR_ALONE: sar & ~rgb, BOTH: rgb & sar}
    return {answer: mask for answer, mask in masks.items() if mask.any()} or {RGB_ALONE: rgb}


def replace_where(mask: torch.Tensor, scores: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Take each pixel's scores from ``scores`` where the mask is True, and from ``others`` elsewhere.

    Args:
        mask: bool (H, W); resized with nearest-neighbour sampling if the size differs.
        scores, others: (T, height, width).

    Returns:
        (T, height, width).
    """
    mask = mask.to(scores.device, torch.float32)[None, None]
    mask = F.interpolate(mask, scores.shape[1:], mode="nearest-exact")[0, 0] > 0
    return torch.where(mask, scores, others)


def has_data(batched_inputs: Sequence[Mapping], key: str) -> list[bool]:
    """Whether the mask ``key`` of each item, by default all True, has any True pixel."""
    return [item.get(key) is None or bool(item[key].any()) for item in batched_inputs]


def _mask(item: Mapping, key: str) -> torch.Tensor:
    size, mask = item["image"].shape[1:], item.get(key)
    if mask is None:
        return torch.ones(size, dtype=torch.bool)
    if mask.shape != size:
        raise DataError(
            f"'{key}' of {item.get('file_name', 'the pair')} has shape {tuple(mask.shape)}; it must be {tuple(size)}, "
            "like the image."
        )
    return mask.bool().cpu()
