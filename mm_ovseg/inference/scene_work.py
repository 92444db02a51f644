"""The unfinished map of a scene, on disk: rows that are done survive whatever ends the run."""

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


class SceneWork:
    """Raw rows of the layers of a map in a folder beside it, with the number of rows that are done.

    Rows are written and flushed before the number is raised, so after a kill at any moment the rows below it are whole.

    Args:
        output: the map that is being made; the folder is ``{output}.work``.
        layers: name -> bands of each layer; all are uint8.
        width, height: of the scene in pixels.
        settings: everything that the map depends on, as JSON.
        resume: go on where an earlier run with equal settings ended; else begin from the start, and warn where that
            discards the work of an earlier run.

    Attributes:
        rows_done: the rows that need not be made again.

    Raises:
        DataError: the folder cannot be written, or, on resuming, its settings are others.
    """

    def __init__(
        self, output: Path, *, layers: Mapping[str, int], width: int, height: int, settings: Mapping, resume: bool
    ) -> None:
        self.folder = work_folder(output)
        self.layers = dict(layers)
        self.width, self.height = width, height
        self.rows_done = 0
        check_writable_folder(output.parent)
        self._settings = json.loads(json.dumps({**settings, "layers": self.layers, "size": [width, height]}))
        if resume and (self.folder / STATE).is_file():
            self._take_up()
        else:
            if (self.folder / STATE).is_file():
                logger.warning(
                    "The work of an earlier run in %s is discarded; --resume would go on with it.", self.folder
                )
            shutil.rmtree(self.folder, ignore_errors=True)
            self._save(0)
        try:
            self._files = {name: open(self.folder / f"{name}.raw", "ab") for name in layers}  # noqa: SIM115
        except OSError as error:
            raise DataError(f"{self.folder} cannot be written ({error.strerror}); choose another place.") from error
        for file in self._files.values():  # rows after the last that were counted
            file.truncate(self.rows_done * self._row_bytes(file.name))

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
                f"{self.folder} cannot be written ({error.strerror}); make room and go on with --resume."
            ) from error
        self._save(self.rows_done + count)

    def parts(self, layer: str) -> Iterator[np.ndarray]:
        """A finished layer, uint8 (bands, rows, W), a part of its rows at a time."""
        bands = self.layers[layer]
        with open(self.folder / f"{layer}.raw", "rb") as file:
            for row in range(0, self.height, ROWS_AT_ONCE):
                count = min(ROWS_AT_ONCE, self.height - row)
                part = np.frombuffer(file.read(count * bands * self.width), dtype=np.uint8)
                yield part.reshape(count, bands, self.width).transpose(1, 0, 2)

    def close(self, *, finished: bool) -> None:
        """Close the files, and remove the folder once the map is finished."""
        for file in self._files.values():
            file.close()
        if finished:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _row_bytes(self, file_name: str) -> int:
        return self.width * self.layers[Path(file_name).stem]

    def _save(self, rows_done: int) -> None:
        with complete_file(self.folder / STATE) as temporary:
            temporary.write_text(json.dumps({"rows_done": rows_done, "settings": self._settings}), encoding="utf-8")
        self.rows_done = rows_done

    def _take_up(self) -> None:
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            then, rows_done = state["settings"], int(state["rows_done"])
            sizes = {name: (self.folder / f"{name}.raw").stat().st_size for name in self.layers}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.folder} is damaged ({error}); remove it and run without --resume.") from error
        changed = sorted(key for key in self._settings.keys() | then.keys() if self._settings.get(key) != then.get(key))
        if changed:
            raise DataError(
                f"{self.folder} holds the beginning of another map: {', '.join(changed)} differ. Give what was given "
                "then, or run without --resume to begin from the start."
            )
        if any(size < rows_done * self.width * self.layers[name] for name, size in sizes.items()):
            raise DataError(f"{self.folder} lacks rows that were done; remove it and run without --resume.")
        self.rows_done = rows_done


def work_folder(output: Path) -> Path:
    """Where the work on a map lies until it is finished."""
    return output.with_name(f"{output.name}.work")
