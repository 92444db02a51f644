"""The tiles of a scene, or of a part of it: read, filtered, counted and written."""

from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rasterio.enums import ColorInterp

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.data.tile.label_values import IGNORED, Legend
from mm_ovseg.data.tile.polygon_labels import PolygonLabels
from mm_ovseg.data.tile.raster_labels import RasterLabels
from mm_ovseg.data.tile.settings import TileSettings, Window
from mm_ovseg.files import sha256
from mm_ovseg.jobs import Skipped, file_states
from mm_ovseg.raster import Grid, count_polarisations, write_geotiff

__all__ = ["TileJob", "close_scene", "open_labels", "open_scene"]

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

Labels = RasterLabels | PolygonLabels
Content = tuple[Grid, PairSample, np.ndarray | None, dict[str, int]]


@dataclass(frozen=True)
class TileJob:
    """A :class:`~mm_ovseg.jobs.Job` that makes tiles.

    Attributes:
        name: Name of the job.
        scene: Files of the scene.
        windows: Name of a tile -> its window within the scene's grid.
        split: "train" or "val".
        settings: How tiles are cut.
        legend: Meaning of the labels; None for a scene without labels.
        output: Folder of the splits; None to read everything, but write nothing.
        hash_sources: Record the SHA-256 of the scene's files.
    """

    name: str
    scene: SceneFiles
    windows: dict[str, Window]
    split: str
    settings: TileSettings
    legend: Legend | None
    output: Path | None
    hash_sources: bool = False

    def fingerprint(self) -> list:
        """See :class:`~mm_ovseg.jobs.Job`."""
        return [self.split, *file_states(self._sources())]

    def read(self) -> tuple[dict, dict[str, Content], dict[str, int]]:
        """All tiles, before any of them is written: a truncated file fails only at its end."""
        hashes = {}
        if self.hash_sources and self.output is not None:
            hashes = {f"{path.parent.name}/{path.name}": sha256(path) for path in self._sources()}
        source, labels = _open_once(self)
        tiles = {}
        for name, window in self.windows.items():
            label, unknown = (None, {}) if labels is None else labels.read(*window)
            tiles[name] = source.grid.window(*window), source.read(*window), label, unknown
        return hashes, tiles, labels.left_out if isinstance(labels, PolygonLabels) else {}

    def write(self, content: tuple[dict, dict[str, Content], dict[str, int]]) -> dict:
        """Write the tiles that have enough data; see :class:`~mm_ovseg.jobs.Job`.

        Returns:
            The result. An entry of ``made`` has ``name``, ``split``, ``source`` (``scene``; ``window``: column, row,
            width, height; ``sha256`` of its files), ``valid`` (share of pixels with RGB and SAR), ``clipped`` (share of
            the SAR values that became 0 or 255); with labels, ``pixels`` (of each class), ``ignored`` (pixels) and
            ``unknown`` (value without meaning -> pixels); and, if written, ``rgb``, ``sar`` and ``labels`` (``file``,
            ``sha256``). Besides, ``unknown`` is that of skipped tiles, and ``left_out`` has the scene's geometries that
            cannot be used: reason -> number.
        """
        hashes, tiles, left_out = content
        result = {"made": [], "files": {}, "skipped": [], "unknown": Counter(), "left_out": {self.scene.name: left_out}}
        for name, (grid, window, label, unknown) in tiles.items():
            sar = window.sar_image[..., : len(self.settings.sar.bands) or count_polarisations(window.sar_image)]
            sar = np.rint(sar).astype(np.uint8)  # channels that the reader derives from others are not written
            if label is not None:
                label[~window.image_valid] = IGNORED
            if reason := _reason_to_skip(self.settings, window, sar, label):
                result["skipped"].append(asdict(Skipped(name, reason)))
                result["unknown"].update(unknown)
                continue
            row, column, height, width = self.windows[name]
            entry = {"name": name, "split": self.split}
            entry["source"] = {"scene": self.scene.name, "window": [column, row, width, height]}
            if hashes:
                entry["source"]["sha256"] = hashes
            entry["valid"] = round(float((window.image_valid & window.sar_valid).mean()), 4)
            entry["clipped"] = round(float(np.isin(sar[window.sar_valid], (0, 255)).mean()), 4)
            images = {"rgb": (window.image, window.image_valid), "sar": (sar, window.sar_valid)}
            if label is not None:
                counts = np.bincount(label.ravel(), minlength=256)
                entry["pixels"] = counts[: len(self.legend.classes)].tolist()
                entry |= {"ignored": int(counts[IGNORED]), "unknown": unknown}
                images["labels"] = label[..., np.newaxis], None
            for kind, (image, valid) in images.items() if self.output is not None else ():
                file = f"{self.split}/{kind}/{name}.tif"
                write_geotiff(
                    self.output / file,
                    image.transpose(2, 0, 1),
                    grid,
                    valid=None if valid is None or valid.all() else valid,
                    meanings=RGB if image.shape[2] == 3 else (),
                )
                result["files"][file] = sha256(self.output / file)
                entry[kind] = {"file": file, "sha256": result["files"][file]}
            result["made"].append(entry)
        return result

    def _sources(self) -> list[Path]:
        labels = [] if self.scene.labels is None else [self.scene.labels]
        return [*self.scene.rgb, *self.scene.sar, *labels]


def open_scene(scene: SceneFiles, settings: TileSettings) -> SceneSource:
    """Open RGB and SAR on one grid; raises the errors of :class:`~mm_ovseg.data.scene_source.SceneSource`."""
    return SceneSource(
        scene.rgb,
        scene.sar,
        rgb_reader=settings.rgb,
        sar_reader=settings.sar,
        ground_sampling_distance=settings.ground_sampling_distance,
        any_format=settings.any_format,
    )


def open_labels(scene: SceneFiles, source: SceneSource, settings: TileSettings, legend: Legend) -> Labels:
    """Open the labels of a scene whose images are open; raises the errors of the two label classes."""
    if settings.attribute is None:
        return RasterLabels(scene.labels, source, legend.raster_table)
    background = IGNORED if settings.background is None else legend.classes.index(settings.background)
    chosen = {"attribute": settings.attribute, "layer": settings.layer, "background": background}
    return PolygonLabels(scene.labels, source.grid, legend, **chosen)


_opened: dict[tuple, tuple[SceneSource, Labels | None, ExitStack]] = {}  # of the latest job


def _open_once(job: TileJob) -> tuple[SceneSource, Labels | None]:
    """Open files and read polygons only once for consecutive jobs of a scene in a process."""
    key = (job.scene, job.settings, job.legend, str(job.fingerprint()[1:]))
    if key not in _opened:
        close_scene()
        with ExitStack() as stack:
            source, labels = stack.enter_context(open_scene(job.scene, job.settings)), None
            if job.legend is not None:
                labels = stack.enter_context(closing(open_labels(job.scene, source, job.settings, job.legend)))
            _opened[key] = source, labels, stack.pop_all()
    return _opened[key][:2]


def close_scene() -> None:
    """Close the files that this process has opened for its latest job."""
    while _opened:
        _opened.popitem()[1][2].close()


def _reason_to_skip(
    settings: TileSettings, window: PairSample, sar: np.ndarray, label: np.ndarray | None
) -> str | None:
    # On a lattice, the part that the scene's edge cuts off counts as no data.
    pixels = window.image_valid.size if settings.spread else settings.size**2
    images = {"RGB": (window.image, window.image_valid), "SAR": (sar, window.sar_valid)}
    valid_of = {kind: valid for kind, (_, valid) in images.items()}
    if label is None:
        valid_of["RGB and SAR together"] = window.image_valid & window.sar_valid
    for kind, valid in valid_of.items():
        if valid.sum() < max(1, settings.min_valid * pixels):
            return f"too few pixels with {kind}"
    if label is not None:
        is_enough = (label != IGNORED).sum() >= max(1, settings.min_labelled * pixels)
        return None if is_enough else "too few pixels with a label"
    for kind, (image, valid) in images.items():
        values = image[valid]
        if (values == values[0]).all():
            return f"the same {kind} everywhere"
    return None
