"""A cache of decoded samples on disk, so that later epochs read arrays instead of decoding files."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder, complete_file

__all__ = ["SampleCache"]

MASKS = ("image_valid", "sar_valid")

logger = logging.getLogger(__name__)


class SampleCache:
    """Keeps samples as they are before augmentation, one file each, for all workers, processes and runs.

    The key of an entry is the path, size and time of its source files and the settings with which they were read, so
    that anything that has changed is read again. The folder may be removed at any time; ``/dev/shm/NAME`` keeps it in
    memory. A pixel takes 7 bytes with 8-bit SAR, otherwise 16, and up to 2 more if there are pixels without data.

    Args:
        folder: Created if it is missing.

    Raises:
        DataError: The folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        check_writable_folder(folder)
        self._folder = folder
        self._full = False

    def get(self, files: Sequence[str], settings: Mapping[str, Any], read: Callable[[], PairSample]) -> PairSample:
        """The sample made from the given files, which are read only if it is not cached.

        Args:
            files: All files that ``read`` opens.
            settings: Everything else that its result depends on, ready for JSON.
            read: Makes the sample; if it raises, nothing is stored.
        """
        path = self._folder / f"{_fingerprint(files, settings)}.safetensors"
        sample = _load(path)
        if sample is None:
            sample = read()
            self._store(path, sample)
        return sample

    def _store(self, path: Path, sample: PairSample) -> None:
        if self._full:
            return
        try:
            with complete_file(path) as temporary:
                save_file(_to_arrays(sample), temporary)
        except (DataError, SafetensorError) as error:
            self._full = True
            logger.warning("No more samples are kept in DATALOADER.CACHE_DIR: %s", error)


def _fingerprint(files: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Raises a DataError for a file that is not there."""
    try:
        states = [(str(Path(file).absolute()), (stat := Path(file).stat()).st_size, stat.st_mtime_ns) for file in files]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); check the file.") from error
    return hashlib.sha256(json.dumps([states, settings], sort_keys=True).encode()).hexdigest()


def _to_arrays(sample: PairSample) -> dict[str, np.ndarray]:
    """The arrays of a sample, losslessly reduced: an empty mask is True everywhere."""
    arrays = {name: array for name, array in vars(sample).items() if array is not None}
    sar_image = arrays.get("sar_image")
    if sar_image is not None and np.array_equal(whole := sar_image.astype(np.uint8), sar_image):
        arrays["sar_image"] = whole
    for name in MASKS:
        if name in arrays and arrays[name].all():
            arrays[name] = np.empty((0, 0), dtype=bool)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _load(path: Path) -> PairSample | None:
    """An entry; None if it is missing or damaged."""
    try:
        arrays = load_file(path)
        shape = arrays["image"].shape[:2]
    except (OSError, SafetensorError, KeyError):
        return None
    for name in MASKS:
        if name in arrays and arrays[name].size == 0:
            arrays[name] = np.ones(shape, dtype=bool)
    if "sar_image" in arrays:
        arrays["sar_image"] = arrays["sar_image"].astype(np.float32, copy=False)
    return PairSample(
        **{name: arrays.get(name) for name in ("image", "image_valid", "sar_image", "sar_valid", "sem_seg")}
    )
