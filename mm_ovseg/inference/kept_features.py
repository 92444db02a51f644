"""What the encoders gave for the windows of a scene, kept in a folder for further questions about the same scene."""

import json
import logging
import math
import re
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder, complete_file, remove_leftovers
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem

__all__ = ["EncodedBatch", "EncodedWindow", "KeptFeatures", "check_features_folder"]

logger = logging.getLogger(__name__)

DESCRIPTION = "features.json"
FORMAT = "features of the windows of a scene, by mm_ovseg"
BATCH_FILE = re.compile(r"\d+_\d+_\d+\.safetensors")
MIN_FREE = 1_000_000_000  # bytes of the disk that stay free
MAX_WAITING = 2  # batches to write, which memory holds
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
        sizes: the number of windows in each part that was encoded at once: all that have data, unless memory did not
            hold them. Other parts would change the last bits of the scores.
    """

    windows: Sequence[EncodedWindow]
    sizes: Sequence[int]

    def parts(self) -> Iterator[list[EncodedItem]]:
        """The features of the windows with data, part by part."""
        encoded = iter([window.encoded for window in self.windows if window.encoded is not None])
        for size in self.sizes:
            yield [next(encoded) for _ in range(size)]


class KeptFeatures:
    """The features of the windows of one scene and model in a folder, which threads may share; a context manager.

    There is a file for each batch of windows, with the bits and the memory layout of each tensor: the same batch gets
    the same bits as from the encoders. Features with another key are never used. They are removed once there are new
    ones to write, and never before, so a mistake in the options costs nothing.

    Args:
        folder: missing, empty, or a folder of features.
        key: everything that the features depend on, as JSON; its entries are named in a message if they changed.
        max_bytes: the size of all files from which on no more are written.
        device: where to put the features.

    Attributes:
        found: what else is known of the scene from reading it, as JSON; kept with the features and from then on fixed.
        loaded: the number of windows with data whose features were read.

    Raises:
        DataError: see :func:`check_features_folder`.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], *, max_bytes: float, device: torch.device) -> None:
        check_features_folder(folder)
        self.folder, self._max_bytes, self._device = folder, max_bytes, device
        self._key = json.loads(json.dumps(key))
        self._digest = sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()
        description = _read_description(folder) or {}
        then = description.get("key", {})
        self._is_current = then == self._key
        self.found: dict[str, Any] = description["found"] if self._is_current else {}
        if then and not self._is_current:
            changed = sorted(name for name in self._key.keys() | then.keys() if self._key.get(name) != then.get(name))
            logger.info("The features in %s are replaced: %s differ.", folder, ", ".join(changed))
        self.loaded = self._read_windows = self._new_windows = self._left_out = 0
        self._bytes: int | None = None  # of the files; None until the first is written
        self._full = ""  # why no more are kept
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._waiting: deque[Future] = deque()

    def __enter__(self) -> "KeptFeatures":
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown()
        for future in self._waiting:
            future.result()
        if self._left_out:
            windows = self._read_windows + self._new_windows
            logger.warning(
                "The features of %d of %d windows (%.0f%%) are not kept: %s.",
                *(self._left_out, windows, 100 * self._left_out / windows, self._full),
            )

    def remember(self, name: str, find: Callable[[], Any]) -> Any:
        """What is known of the scene under a name, as JSON; found out, by a call, unless it is kept with features."""
        if name not in self.found:
            self.found[name] = find()
        return self.found[name]

    def load(self, row: int, columns: Sequence[int]) -> EncodedBatch | None:
        """The batch of the windows at a row and some columns; None if it is not kept, or damaged."""
        path = self._path(row, columns)
        if not self._is_current or not path.exists():
            return None
        try:
            batch = self._read(path, columns)
        except (OSError, ValueError, LookupError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            logger.warning("%s is damaged (%s); its windows are encoded again.", path, error)
            return None
        if batch is not None:
            self._read_windows += len(columns)
            self.loaded += sum(batch.sizes)
        return batch

    def save(self, row: int, columns: Sequence[int], batch: EncodedBatch) -> None:
        """Keep a batch, in the background. What cannot be kept is left out, with one warning at the end."""
        if len(self._waiting) == MAX_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._executor.submit(self._save, row, columns, batch))

    def _path(self, row: int, columns: Sequence[int]) -> Path:
        return self.folder / f"{row}_{columns[0]}_{len(columns)}.safetensors"

    def _read(self, path: Path, columns: Sequence[int]) -> EncodedBatch | None:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
            description = json.loads(metadata["mm_ovseg"])
            if description["key"] != self._digest or description["columns"] != list(columns):
                return None
            flat = {name: file.get_tensor(name).clone() for name in description["layouts"]}  # aligned in memory
        if metadata["checksum"] != _checksum(metadata["mm_ovseg"], flat):
            raise ValueError("its bytes have changed")
        windows: list[dict[str, Any]] = [{"features": {}, "masks": {}} for _ in columns]
        for name, layout in description["layouts"].items():
            index, kind, *names = name.split("/", 3)
            tensor, window = _from_flat(flat[name], *layout, self._device), windows[int(index)]
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
                    EncodedItem(window["features"], window["masks"], *map(tuple, sizes))
                    if window["features"]
                    else None,
                )
                for window, sizes in zip(windows, description["item_sizes"], strict=True)
            ],
            description["sizes"],
        )

    def _save(self, row: int, columns: Sequence[int], batch: EncodedBatch) -> None:
        self._new_windows += len(columns)
        if not self._full:
            try:
                self._write(self._path(row, columns), self._serialised(columns, batch))
                return
            except (DataError, OSError, MemoryError) as error:
                self._full = str(error).rstrip(".") or "memory is full"
        self._left_out += len(columns)

    def _serialised(self, columns: Sequence[int], batch: EncodedBatch) -> bytes:
        flat, layouts = {}, {}
        items = [window.encoded or EMPTY for window in batch.windows]
        for name, tensor in _named_tensors(batch.windows):
            flat[name], layouts[name] = _to_flat(tensor), _layout(tensor)
        description = json.dumps(
            {
                "key": self._digest,
                "columns": list(columns),
                "sizes": list(batch.sizes),
                "item_sizes": [(item.size, item.image_size) for item in items],
                "layouts": layouts,
            }
        )
        metadata = {"mm_ovseg": description, "checksum": _checksum(description, flat)}
        return safetensors.torch.save(flat, metadata)

    def _write(self, path: Path, content: bytes) -> None:
        if self._bytes is None:
            self._begin()
        size = self._bytes + len(content) - (path.stat().st_size if path.exists() else 0)
        if size > self._max_bytes:
            raise DataError(f"--max-features is {self._max_bytes / 1e9:g} GB")
        if shutil.disk_usage(self.folder).free < len(content) + MIN_FREE:
            raise DataError(f"the disk of {self.folder} has less than {MIN_FREE / 1e9:g} GB free")
        with complete_file(path) as temporary:
            temporary.write_bytes(content)
        self._bytes = size

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        if not self._is_current:
            for file in self._files():
                file.unlink()
            with complete_file(self.folder / DESCRIPTION) as temporary:
                description = {"format": FORMAT, "key": self._key, "found": self.found}
                temporary.write_text(json.dumps(description, indent=1), encoding="utf-8")
        self._bytes = sum(file.stat().st_size for file in self._files())

    def _files(self) -> list[Path]:
        return [file for file in self.folder.iterdir() if BATCH_FILE.fullmatch(file.name)]


def check_features_folder(folder: Path) -> None:
    """Check that a folder can keep features.

    Raises:
        DataError: it holds something else, or cannot be written or read.
    """
    check_writable_folder(folder)
    try:
        is_foreign = folder.exists() and any(folder.iterdir()) and _read_description(folder) is None
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); choose another folder for features.") from error
    if is_foreign:
        raise DataError(f"{folder} holds other files than features; choose a new or an empty folder for features.")


def _read_description(folder: Path) -> dict[str, Any] | None:
    """The description of a folder of features; None if it is not one."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        is_ours = description["format"] == FORMAT and all(
            isinstance(description[part], dict) for part in ("key", "found")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return description if is_ours else None


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
