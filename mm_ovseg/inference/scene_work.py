"""The unfinished map of a scene, on disk: rows that are done survive whatever ends the run."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

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
        resume: go on where an earlier run with equal settings ended; otherwise begin anew, and warn where that discards
            the work of an earlier run.

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

    def write_geotiff(
        self, layer: str, path: Path, *, crs: CRS | None, transform: Affine | None, nodata: int | None, **tags: Any
    ) -> None:
        """Write a finished layer as a plain GeoTIFF.

        Args:
            layer: its name.
            path: the file.
            crs, transform: of the scene.
            nodata: value that stands for no data.
            tags: ``colors``, {index: (red, green, blue)}; ``descriptions``, one a band; ``band_tags``, of the first.

        Raises:
            DataError: it cannot be written.
        """
        profile = {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": self.layers[layer],
            "width": self.width,
            "height": self.height,
            "crs": crs,
            "transform": transform,
            "nodata": nodata,
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "interleave": "band",
            "compress": "deflate",
            "zlevel": 1,  # it is copied once more
            "bigtiff": "if_safer",
        }
        with complete_file(path) as temporary, rasterio.open(temporary, "w", **profile) as file:
            for row, rows in self._rows(layer):
                file.write(rows, window=Window(0, row, self.width, rows.shape[1]))
            if colors := tags.get("colors"):
                file.write_colormap(1, colors)
            for band, description in enumerate(tags.get("descriptions", ()), start=1):
                file.set_band_description(band, description)
            file.update_tags(1, **tags.get("band_tags", {}))

    def close(self, *, finished: bool) -> None:
        """Close the files, and remove the folder once the map is finished."""
        for file in self._files.values():
            file.close()
        if finished:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _rows(self, layer: str) -> Iterator[tuple[int, np.ndarray]]:
        """First row and uint8 (bands, rows, W) of the layer, a part at a time."""
        bands = self.layers[layer]
        with open(self.folder / f"{layer}.raw", "rb") as file:
            for row in range(0, self.height, ROWS_AT_ONCE):
                count = min(ROWS_AT_ONCE, self.height - row)
                part = np.frombuffer(file.read(count * bands * self.width), dtype=np.uint8)
                yield row, part.reshape(count, bands, self.width).transpose(1, 0, 2)

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
                "then, or run without --resume to begin anew."
            )
        if any(size < rows_done * self.width * self.layers[name] for name, size in sizes.items()):
            raise DataError(f"{self.folder} lacks rows that were done; remove it and run without --resume.")
        self.rows_done = rows_done


def work_folder(output: Path) -> Path:
    """Where the work on a map lies until it is finished."""
    return output.with_name(f"{output.name}.work")
