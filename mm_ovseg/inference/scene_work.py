"""The unfinished map of a scene on disk, whose finished rows survive an interruption of any kind."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder, complete_file

__all__ = ["SceneWork", "work_folder"]

logger = logging.getLogger(__name__)

STATE = "state.json"
ROWS_AT_ONCE = 512


def work_folder(output: Path) -> Path:
    """The folder for the work on an unfinished map."""
    return output.with_name(f"{output.name}.work")


class SceneWork:
    """Raw rows of the layers of a map in a folder next to it, with the number of finished rows.

    Rows are flushed to disk before the number is raised, so the rows below it are complete after a kill at any moment.

    Args:
        output: the map; the folder is ``{output}.work``.
        layers: name -> number of bands of each uint8 layer.
        width, height: size of the scene in pixels.
        settings: everything that the map depends on, as JSON.
        resume: continue an earlier run with the same settings; otherwise start from the beginning, and warn if that
            discards the work of an earlier run.

    Attributes:
        rows_done: the number of finished rows.

    Raises:
        DataError: the folder cannot be written, or, on resuming, its settings differ.
    """

    def __init__(
        self, output: Path, *, layers: Mapping[str, int], width: int, height: int, settings: Mapping, resume: bool
    ) -> None:
        self.folder = work_folder(output)
        self.layers = dict(layers)
        self._width, self._height = width, height
        self.rows_done = 0
        check_writable_folder(output.parent)
        self._settings = json.loads(json.dumps({**settings, "layers": self.layers, "size": [width, height]}))
        started = (self.folder / STATE).is_file()
        if resume and started:
            self._load_state()
        else:
            if started:
                logger.warning(
                    "The work of an earlier run in %s is discarded; --resume would continue it.", self.folder
                )
            shutil.rmtree(self.folder, ignore_errors=True)
            self._save_state(0)
        try:
            self._files = {name: open(self.folder / f"{name}.raw", "ab") for name in layers}  # noqa: SIM115
        except OSError as error:
            raise DataError(f"{self.folder} cannot be written ({error.strerror}); choose another place.") from error
        for name, file in self._files.items():  # drop rows that were not counted
            file.truncate(self.rows_done * width * self.layers[name])

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add the next rows of every layer: uint8 (bands, rows, W).

        Raises:
            DataError: they cannot be written, for instance because the disk is full.
        """
        count = next(iter(rows.values())).shape[1]
        try:
            for name, file in self._files.items():
                file.write(np.ascontiguousarray(rows[name].transpose(1, 0, 2)).tobytes())  # (rows, bands, W)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{self.folder} cannot be written ({error.strerror}); free some space and continue with --resume."
            ) from error
        self._save_state(self.rows_done + count)

    def parts(self, layer: str) -> Iterator[np.ndarray]:
        """A finished layer, uint8 (bands, rows, W), a few rows at a time."""
        bands = self.layers[layer]
        with open(self.folder / f"{layer}.raw", "rb") as file:
            for row in range(0, self._height, ROWS_AT_ONCE):
                part = np.fromfile(file, np.uint8, min(ROWS_AT_ONCE, self._height - row) * bands * self._width)
                yield part.reshape(-1, bands, self._width).transpose(1, 0, 2)

    def close(self, *, finished: bool) -> None:
        """Close the files, and remove the folder once the map is finished."""
        for file in self._files.values():
            file.close()
        if finished:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _save_state(self, rows_done: int) -> None:
        with complete_file(self.folder / STATE) as temporary:
            temporary.write_text(json.dumps({"rows_done": rows_done, "settings": self._settings}), encoding="utf-8")
        self.rows_done = rows_done

    def _load_state(self) -> None:
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            then, rows_done = state["settings"], int(state["rows_done"])
            sizes = {name: (self.folder / f"{name}.raw").stat().st_size for name in self.layers}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.folder} is damaged ({error}); remove it and run without --resume.") from error
        changed = sorted(key for key in self._settings.keys() | then.keys() if self._settings.get(key) != then.get(key))
        if changed:
            raise DataError(
                f"{self.folder} holds the beginning of another map: {', '.join(changed)} differ. Give the same "
                "arguments as then, or run without --resume to start from the beginning."
            )
        if any(size < rows_done * self._width * self.layers[name] for name, size in sizes.items()):
            raise DataError(f"{self.folder} lacks finished rows; remove it and run without --resume.")
        self.rows_done = rows_done
