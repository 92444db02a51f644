"""Answers with and without SAR: which of them a pair needs, depending on SAR's coverage, and how to join them."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from mm_ovseg.errors import DataError

__all__ = ["WITHOUT_SAR", "WITH_SAR", "join_by_validity", "needed_answers"]

WITH_SAR, WITHOUT_SAR = "with SAR", "without SAR"


def needed_answers(item: Mapping) -> set[str]:
    """The answers that a batch item needs, of ``WITH_SAR`` and ``WITHOUT_SAR``.

    Args:
        item: with ``image`` (3, H, W) and ``sar_image``, which may be None; ``sar_valid`` and ``image_valid``, bool
            (H, W), are their valid masks, by default all True. Pixels without RGB need no answer without SAR.

    Returns:
        One of them, or both.

    Raises:
        DataError: a mask and the image differ in size.
    """
    if "sar_image" in item and item["sar_image"] is None:
        return {WITHOUT_SAR}
    sar_valid, image_valid = (_mask(item, key) for key in ("sar_valid", "image_valid"))
    if sar_valid is None:
        return {WITH_SAR}
    if not sar_valid.any():
        return {WITHOUT_SAR}
    lacking = ~sar_valid if image_valid is None else ~sar_valid & image_valid
    return {WITH_SAR, WITHOUT_SAR} if lacking.any() else {WITH_SAR}


def join_by_validity(with_sar: torch.Tensor, without_sar: torch.Tensor, sar_valid: torch.Tensor) -> torch.Tensor:
    """Take each pixel's scores from the answer with SAR where SAR is valid, and from the other one elsewhere.

    Args:
        with_sar, without_sar: (T, height, width).
        sar_valid: bool (H, W); resized with nearest-neighbour sampling if the size differs.

    Returns:
        (T, height, width).
    """
    mask = sar_valid.to(with_sar.device, torch.float32)[None, None]
    mask = F.interpolate(mask, with_sar.shape[1:], mode="nearest-exact")[0, 0] > 0
    return torch.where(mask, with_sar, without_sar)


def _mask(item: Mapping, key: str) -> torch.Tensor | None:
    mask = item.get(key)
    if mask is None:
        return None
    if mask.shape != item["image"].shape[1:]:
        raise DataError(
            f"'{key}' of {item.get('file_name', 'the pair')} has shape {tuple(mask.shape)}; it must be "
            f"{tuple(item['image'].shape[1:])}, like the image."
        )
    return mask.bool()
