"""One tile of a scene: RGB, SAR and labels of a window, read, counted and written."""

import functools
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mm_ovseg.data.preparation.dropped import BROKEN, Dropped
from mm_ovseg.data.preparation.tile import is_intact, write_tile
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.data.tiling.labels import RasterLabels
from mm_ovseg.data.tiling.legend import IGNORED, Legend
from mm_ovseg.data.tiling.polygon_labels import PolygonLabels
from mm_ovseg.data.tiling.scenes import LabelledScene
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import sha256
from mm_ovseg.raster import Grid, RGBReader, SARReader, count_polarisations

__all__ = ["SceneTile", "TilingSettings", "open_labels", "open_scene", "process_tile", "windows_of"]


@dataclass(frozen=True)
class TilingSettings:
    """How scenes become tiles.

    Attributes:
        size: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share.
        ground_sampling_distance: metres a pixel; None for each scene's own.
        rgb, sar: read the images.
        attribute: of the polygons; None where labels are rasters.
        layer: of the vector files; None where they have one.
        background: class of pixels in no polygon; None for no label.
        min_valid: share of a whole tile that must have RGB, and SAR, 0..1.
        min_labelled: share of a whole tile that must have a label, 0..1; at 0 a pixel will do.

    Raises:
        ConfigError: a number is out of range.
    """

    size: int = 512
    overlap: int = 0
    ground_sampling_distance: float | None = None
    rgb: RGBReader = RGBReader()
    sar: SARReader = SARReader()
    attribute: str | None = None
    layer: str | None = None
    background: str | None = None
    min_valid: float = 0.5
    min_labelled: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"--size is {self.size}; give a number of pixels.")
        if not 0 <= self.overlap < self.size:
            raise ConfigError(f"--overlap is {self.overlap}; give 0 to {self.size - 1}, less than --size.")
        for name in ("min_valid", "min_labelled"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; give a share from 0 to 1.")


@dataclass(frozen=True)
class SceneTile:
    """A tile to be made.

    Attributes:
        scene: Its files.
        window: (row, column, height, width) within the scene's grid, in pixels.
        split: "train" or "val".
        settings: How.
        legend: What the labels mean.
        output: Folder that holds the splits; None to look at everything and write nothing.
    """

    scene: LabelledScene
    window: tuple[int, int, int, int]
    split: str
    settings: TilingSettings
    legend: Legend
    output: Path | None

    @property
    def name(self) -> str:
        """Of its files, without suffix."""
        return f"{self.scene.name}_r{self.window[0]:06d}_c{self.window[1]:06d}"


def windows_of(grid: Grid, settings: TilingSettings) -> list[tuple[int, int, int, int]]:
    """Windows (row, column, height, width) on a regular lattice; those at the right and lower edges are cut off."""
    step = settings.size - settings.overlap
    # A window whose pixels all lie in the one before would add nothing.
    rows, columns = (range(0, max(length - settings.overlap, 1), step) for length in (grid.height, grid.width))
    return [
        (row, column, min(settings.size, grid.height - row), min(settings.size, grid.width - column))
        for row in rows
        for column in columns
    ]


def open_scene(scene: LabelledScene, settings: TilingSettings) -> SceneSource:
    """Open RGB and SAR on one grid.

    Raises:
        ConfigError, DataError: as of :class:`~mm_ovseg.data.scene_source.SceneSource`.
    """
    return SceneSource(
        scene.rgb,
        scene.sar,
        rgb_reader=settings.rgb,
        sar_reader=settings.sar,
        ground_sampling_distance=settings.ground_sampling_distance,
        any_format=True,
    )


def open_labels(
    scene: LabelledScene, source: SceneSource, settings: TilingSettings, legend: Legend
) -> RasterLabels | PolygonLabels:
    """Open the labels of a scene whose images are open.

    Raises:
        ConfigError, DataError: as of the two classes.
    """
    if settings.attribute is None:
        return RasterLabels(scene.labels, source, legend.raster_table)
    background = IGNORED if settings.background is None else legend.classes.index(settings.background)
    return PolygonLabels(
        scene.labels,
        source.grid,
        legend,
        attribute=settings.attribute,
        layer=settings.layer,
        background=background,
    )


def process_tile(task: SceneTile, previous: dict | None = None) -> tuple[dict, bool]:
    """Make a tile, or find that it has been made.

    Args:
        task: the tile.
        previous: the result of an earlier call for it, with the same settings.

    Returns:
        The result, ready for JSON, and whether it is the earlier one. It has ``name``, ``fingerprint``, ``pairs`` (one
        or none), ``dropped``; of labels from polygons, ``left_out`` (scene -> reason -> number of the geometries that
        could not be used in the whole scene); and, without a pair, ``unknown`` as below. The pair has ``name``,
        ``split``, ``rgb``, ``sar`` and ``labels`` (``file`` relative to the output folder, ``sha256``; empty when
        nothing is written), ``source`` (scene and window), ``valid`` (share of pixels with RGB and SAR), ``pixels`` (of
        each class), ``ignored`` (pixels) and ``unknown`` (pixels of values without meaning).

    Raises:
        DataError: a file cannot be written.
    """
    try:
        statuses = [path.stat() for path in task.scene.files]
        fingerprint = [task.split, *([status.st_size, status.st_mtime_ns] for status in statuses)]
        result = {"name": task.name, "fingerprint": fingerprint, "pairs": [], "dropped": []}
        if previous is not None and previous["fingerprint"] == fingerprint:
            written = [pair[kind] for pair in previous["pairs"] for kind in ("rgb", "sar", "labels")]
            if all(is_intact(task.output, file) for file in written):
                return previous, True
        row, column, height, width = task.window
        source, labels = _opened(task.scene, task.settings, task.legend)
        window = source.read(row, column, height, width)
        label, unknown = labels.read(row, column, height, width)
    except (DataError, OSError) as error:
        dropped = [asdict(Dropped(task.name, BROKEN, str(error)))]
        return {"name": task.name, "fingerprint": [], "pairs": [], "dropped": dropped}, False
    if isinstance(labels, PolygonLabels):
        result["left_out"] = {task.scene.name: labels.left_out}
    label[~window.image_valid] = IGNORED
    if reason := _reason_to_drop(task.settings, window.image_valid, window.sar_valid, label):
        result["dropped"].append(asdict(Dropped(task.name, reason)))
        result["unknown"] = unknown
        return result, False
    counts = np.bincount(label.ravel(), minlength=256)
    pair = {
        "name": task.name,
        "split": task.split,
        "source": {"scene": task.scene.name, "window": [column, row, width, height]},
        "valid": round(float((window.image_valid & window.sar_valid).mean()), 4),
        "pixels": counts[: len(task.legend.classes)].tolist(),
        "ignored": int(counts[IGNORED]),
        "unknown": unknown,
        "rgb": {},
        "sar": {},
        "labels": {},
    }
    if task.output is not None:
        sar_image = np.rint(window.sar_image).astype(np.uint8)
        sar_image = sar_image[..., : count_polarisations(window.sar_image)]  # the reader makes the others again
        everywhere = np.ones_like(window.image_valid)
        for kind, image, valid in (
            ("rgb", window.image, window.image_valid),
            ("sar", sar_image, window.sar_valid),
            ("labels", label[..., np.newaxis], everywhere),
        ):
            file = Path(task.split, kind, f"{task.name}.tif")
            write_tile(task.output / file, image, valid, source.grid.window(row, column, height, width))
            pair[kind] = {"file": file.as_posix(), "sha256": sha256(task.output / file)}
    result["pairs"].append(pair)
    return result, False


@functools.lru_cache(maxsize=1)
def _opened(
    scene: LabelledScene, settings: TilingSettings, legend: Legend
) -> tuple[SceneSource, RasterLabels | PolygonLabels]:
    """A process works through the tiles of a scene one after the other; it opens, and reads polygons, once."""
    source = open_scene(scene, settings)
    return source, open_labels(scene, source, settings, legend)


def _reason_to_drop(
    settings: TilingSettings, image_valid: np.ndarray, sar_valid: np.ndarray, label: np.ndarray
) -> str | None:
    whole = settings.size**2  # what is cut off at the scene's edge counts as without data
    for kind, valid in (("RGB", image_valid), ("SAR", sar_valid)):
        if valid.sum() < max(1, settings.min_valid * whole):
            return f"too few pixels with {kind}"
    if (label != IGNORED).sum() < max(1, settings.min_labelled * whole):
        return "too few pixels with a label"
    return None
