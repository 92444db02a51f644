"""The encoders' features for the windows of a scene, kept in a folder for further questions about the same scene."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder, complete_file, is_leftover, remove_leftovers
from mm_ovseg.inference.background import Background
from mm_ovseg.inference.feature_files import EncodedBatch, read_batch, serialise_batch

__all__ = ["KeptFeatures", "check_features_folder"]

logger = logging.getLogger(__name__)

DESCRIPTION = "features.json"
FORMAT = "features of the windows of a scene, by mm_ovseg"
BATCH_FILE = re.compile(r"\d+_\d+_\d+\.safetensors")
MIN_FREE = 1_000_000_000  # bytes of the disk that stay free
MAX_WAITING = 2  # batches to write, which memory holds


class KeptFeatures:
    """The features of the windows of one scene and model in a folder, which threads may share; a context manager.

    There is a file for each batch of windows, so the same batch gets the same bits as from the encoders. Features with
    another key are never used. They are removed once there are new ones to write, and never before, so a mistake in the
    options costs nothing.

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
            logger.info("The features in %s are replaced; changed: %s.", folder, ", ".join(changed))
        self.loaded = self._read_windows = self._new_windows = self._left_out = 0
        self._bytes: int | None = None  # of the files; None until the first is written
        self._full = ""  # why no more are kept
        self._in_background = Background("features", MAX_WAITING)

    def __enter__(self) -> "KeptFeatures":
        return self

    def __exit__(self, *error: Any) -> None:
        self._in_background.__exit__(*error)
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
            batch = read_batch(path, key=self._digest, columns=columns, device=self._device)
        except DataError as error:
            logger.warning("%s; its windows are encoded again.", error)
            return None
        if batch is not None:
            self._read_windows += len(columns)
            self.loaded += sum(batch.part_lengths)
        return batch

    def save(self, row: int, columns: Sequence[int], batch: EncodedBatch) -> None:
        """Keep a batch, in the background. What cannot be kept is left out, with one warning at the end."""
        self._in_background(self._save, row, columns, batch)

    def _path(self, row: int, columns: Sequence[int]) -> Path:
        return self.folder / f"{row}_{columns[0]}_{len(columns)}.safetensors"

    def _save(self, row: int, columns: Sequence[int], batch: EncodedBatch) -> None:
        self._new_windows += len(columns)
        if not self._full:
            try:
                self._write(self._path(row, columns), serialise_batch(batch, key=self._digest, columns=columns))
                return
            except (DataError, OSError, MemoryError, RuntimeError, SafetensorError) as error:  # PyTorch's memory, too
                self._full = str(error).rstrip(".") or "memory is full"
        self._left_out += len(columns)

    def _write(self, path: Path, content: bytes) -> None:
        too_large = DataError(f"--max-features is {self._max_bytes / 1e9:g} GB")
        if len(content) > self._max_bytes:  # before anything is removed
            raise too_large
        if self._bytes is None:
            self._begin()
        size = self._bytes + len(content) - (path.stat().st_size if path.exists() else 0)
        if size > self._max_bytes:
            raise too_large
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
        files = [file for file in folder.iterdir() if not is_leftover(file)] if folder.exists() else []
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); choose another folder for features.") from error
    if files and _read_description(folder) is None:
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
