"""A file of the features of a batch of windows, with the bits and the memory layout of each tensor."""

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from mm_ovseg.errors import DataError
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem

__all__ = ["EncodedBatch", "EncodedWindow", "read_batch", "serialise_batch"]

EMPTY = EncodedItem({}, {}, (0, 0), (0, 0))  # of a window without data


@dataclass(frozen=True, eq=False)
class EncodedWindow:
    """A window of a scene, as a question with other names needs it.

    Attributes:
        image_valid, sar_valid: bool (H, W), where RGB and SAR have data.
        encoded: its features; None for a window without data.
    """

    image_valid: np.ndarray
    sar_valid: np.ndarray
    encoded: EncodedItem | None


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Windows of one row that go through the model together.

    Attributes:
        windows: in their order.
        part_lengths: the number of windows in each part that was encoded at once: all that have data, unless memory
            did not hold them. Other parts would change the last bits of the scores.
    """

    windows: Sequence[EncodedWindow]
    part_lengths: Sequence[int]

    def parts(self) -> Iterator[list[EncodedItem]]:
        """The features of the windows with data, part by part."""
        encoded = iter([window.encoded for window in self.windows if window.encoded is not None])
        for length in self.part_lengths:
            yield [next(encoded) for _ in range(length)]


def serialise_batch(batch: EncodedBatch, *, key: str, columns: Sequence[int]) -> bytes:
    """The content of the file of a batch.

    Args:
        batch: what to keep.
        key: says what the features depend on.
        columns: the first column of each window.
    """
    flat, layouts = {}, {}
    items = [window.encoded or EMPTY for window in batch.windows]
    for name, tensor in _named_tensors(batch.windows):
        flat[name], layouts[name] = _to_flat(tensor), _layout(tensor)
    description = json.dumps(
        {
            "key": key,
            "columns": list(columns),
            "part_lengths": list(batch.part_lengths),
            "item_sizes": [(item.size, item.image_size) for item in items],
            "layouts": layouts,
        }
    )
    metadata = {"mm_ovseg": description, "checksum": _checksum(description, flat)}
    return safetensors.torch.save(flat, metadata)


def read_batch(path: Path, *, key: str, columns: Sequence[int], device: torch.device) -> EncodedBatch | None:
    """Read the file of a batch.

    Args:
        path: holds what :func:`serialise_batch` returned.
        key, columns: as there.
        device: where to put the features; masks stay on the CPU.

    Returns:
        The batch; None if it has another key or other columns.

    Raises:
        DataError: the file is damaged, or cannot be read.
    """
    try:
        return _read(path, key, columns, device)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise DataError(f"{path} is damaged ({error})") from error


def _read(path: Path, key: str, columns: Sequence[int], device: torch.device) -> EncodedBatch | None:
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
        description = json.loads(metadata["mm_ovseg"])
        if description["key"] != key or description["columns"] != list(columns):
            return None
        flat = {name: file.get_tensor(name).clone() for name in description["layouts"]}  # aligned in memory
    if metadata["checksum"] != _checksum(metadata["mm_ovseg"], flat):
        raise ValueError("its bytes have changed")
    windows: list[dict[str, Any]] = [{"features": {}, "masks": {}} for _ in columns]
    for name, layout in description["layouts"].items():
        index, kind, *names = name.split("/", 3)
        tensor, window = _from_flat(flat[name], *layout, device), windows[int(index)]
        if kind == "valid":
            window[names[0]] = tensor.numpy()
        elif kind == "mask":
            window["masks"][names[0]] = tensor
        else:
            window["features"].setdefault(names[0], {})[names[1]] = tensor
    return EncodedBatch(
        [
            EncodedWindow(
                window["image"],
                window["sar"],
                EncodedItem(window["features"], window["masks"], *map(tuple, sizes)) if window["features"] else None,
            )
            for window, sizes in zip(windows, description["item_sizes"], strict=True)
        ],
        description["part_lengths"],
    )


def _named_tensors(windows: Sequence[EncodedWindow]) -> Iterator[tuple[str, torch.Tensor]]:
    for index, window in enumerate(windows):
        yield f"{index}/valid/image", torch.from_numpy(window.image_valid)
        yield f"{index}/valid/sar", torch.from_numpy(window.sar_valid)
        item = window.encoded or EMPTY
        for answer, mask in item.masks.items():
            yield f"{index}/mask/{answer}", mask
        for answer, features in item.features.items():
            for name, tensor in features.items():
                yield f"{index}/feature/{answer}/{name}", tensor


def _layout(tensor: torch.Tensor) -> tuple[list[int], list[int] | None]:
    """Shape and strides; None instead for masks."""
    return list(tensor.shape), None if tensor.dtype == torch.bool else list(tensor.stride())


def _to_flat(tensor: torch.Tensor) -> torch.Tensor:
    """The memory of a tensor, on the CPU: eight pixels a byte for a mask, else from its first to its last element."""
    if tensor.dtype == torch.bool:
        return torch.from_numpy(np.packbits(tensor.cpu().numpy()))
    extent = 1 + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((extent,), (1,)).cpu().clone()


def _from_flat(
    flat: torch.Tensor, shape: Sequence[int], strides: Sequence[int] | None, device: torch.device
) -> torch.Tensor:
    """The tensor; masks stay on the CPU. Kernels, and with them the last bits, depend on the strides, too."""
    if strides is not None:
        return flat.to(device).as_strided(shape, strides)
    return torch.from_numpy(np.unpackbits(flat.numpy(), count=math.prod(shape)).reshape(shape).astype(bool))


def _checksum(description: str, flat: Mapping[str, torch.Tensor]) -> str:
    value = zlib.crc32(description.encode())
    for name in sorted(flat):
        value = zlib.crc32(flat[name].view(torch.uint8).numpy(), value)
    return f"{value:08x}"
