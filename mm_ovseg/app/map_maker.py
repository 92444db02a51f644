"""Making the page's maps: from one or two files and typed class names to a map, its areas, and images to show."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.app.messages import page_message
from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.data.palette import default_colors
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import DataError
from mm_ovseg.inference.coverage import sar_share
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from mm_ovseg.inference.scene_files import sibling
from mm_ovseg.raster import RasterSource, open_raster
from mm_ovseg.vocabulary import GENERIC_CLASSES, parse_class_names, seen_classes, split_synonyms, unseen_classes

__all__ = ["MapMaker", "PageMap", "PageScene", "known_classes", "unseen_names"]

PREVIEW_SIDE = 1024  # pixels; longer side of the images shown
ROWS_AT_ONCE = 512
MAX_STEM = 60
MAX_FEATURES = 1  # gigabytes, of each map


@dataclass(frozen=True, eq=False)
class PageMap:
    """A map of a scene, made with or without SAR.

    Attributes:
        class_map: uint8 (h, w), class indices of the preview, 254 for none of the classes, 255 for no data.
        confidence: uint8 (h, w), percent, of the preview, 255 for no data.
        classes: statistics of each class, and of "none" if there may be such pixels, over the whole map: ``name``,
            ``value`` in the map, ``color``, ``unseen``, ``pixels``, ``hectares`` (None without georeference), ``share``
            of the mapped pixels, 0..1, and mean ``confidence``, 0..1 (None if no pixel has the class).
        sar_share: share of the mapped pixels with SAR data, 0..1.
        geotiff, confidence_geotiff: files to download.
    """

    class_map: np.ndarray
    confidence: np.ndarray
    classes: list[dict[str, Any]]
    sar_share: float
    geotiff: Path
    confidence_geotiff: Path


@dataclass(eq=False)
class PageScene:
    """A pair, or an image without a partner, that was mapped, and its maps so far.

    Attributes:
        rgb, sar: the files; one may be None.
        class_names: the names to look for.
        background: names that compete with them, and are mapped to "none"; None for the default ones.
        image, sar_image: uint8 (h, w, 3), previews of at most 1024 pixels a side; None like the file.
        width, height: size of the scene in pixels.
        crs: name of its coordinate reference system, or None.
        folder: the folder of the maps and of the features.
        maps: the maps, by whether SAR was used.
        warnings: sentences for the visitor about possible problems with the files or the maps.
    """

    rgb: Path | None
    sar: Path | None
    class_names: tuple[str, ...]
    image: np.ndarray | None
    sar_image: np.ndarray | None
    width: int
    height: int
    crs: str | None
    folder: Path
    background: tuple[str, ...] | None = None
    maps: dict[bool, PageMap] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The file that gives the grid."""
        return self.sar if self.rgb is None else self.rgb

    @property
    def features(self) -> Path:
        """The folder of the encoders' features for the maps."""
        return self.folder / "features"

    def link_features_to(self, folder: Path) -> None:
        """Hard-link the features into the folder of another scene of the same files."""
        with suppress(OSError):  # without it, the new scene is encoded
            shutil.copytree(self.features, folder / self.features.name, copy_function=os.link)

    def remove(self) -> None:
        """Delete the files of the maps."""
        shutil.rmtree(self.folder, ignore_errors=True)


class MapMaker:
    """Makes the maps of the page with one model, one at a time.

    Args:
        cfg: a config of the ``MMOVSeg`` meta-architecture; ``INPUT`` says how files are read.
        folder: for the maps.
        max_pixels: maximum size of a scene, rows times columns.

    Attributes:
        classes: the class names that the page proposes.

    Raises:
        ConfigError, VocabularyError, CheckpointError: as of :class:`~mm_ovseg.inference.predictor.Predictor`.
    """

    def __init__(self, cfg: CfgNode, folder: Path, *, max_pixels: int = 50_000_000) -> None:
        self.classes, self._seen = known_classes(cfg)
        self._predictor = ScenePredictor(cfg, self.classes, any_format=False)
        self._cfg, self._folder, self._max_pixels = cfg, folder, max_pixels
        self._lock = threading.Lock()  # the model has one vocabulary at a time

    def make_scene(
        self,
        rgb: Path | None,
        sar: Path | None,
        typed_classes: str,
        folder: Path | None = None,
        should_stop: Callable[[], bool] | None = None,
        *,
        typed_background: str = "",
        previous: PageScene | None = None,
    ) -> PageScene:
        """Map a pair, or one image alone.

        Args:
            rgb, sar: the files; SAR on any grid; one may be None.
            typed_classes: "water,road,city", or with synonyms "water,river,lake; road,street".
            folder: folder to create for its maps; None for a new one in the maker's own.
            should_stop: called before each batch of windows; returns True if the map is no longer wanted.
            typed_background: names that compete with the classes and are mapped to "none", spelled like them;
                "" for the default ones.
            previous: a scene of the same files, whose features are used; it stays as it is.

        Returns:
            The scene with one map; the caller removes it.

        Raises:
            MMOVSegError: the files or the names cannot be used; :mod:`mm_ovseg.app.messages` rewords them for visitors.
            StoppedError: ``should_stop`` returned True.
        """
        if rgb is None and sar is None:
            raise DataError("No image was chosen; choose an RGB image, a SAR image or both.")
        # Not read_vocabulary, which opens files.
        class_names = parse_class_names(typed_classes)
        background = parse_class_names(typed_background) if typed_background.strip() else None
        folder = folder or Path(tempfile.mkdtemp(dir=self._folder))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if previous is not None:
                previous.link_features_to(folder)
            rgb_reader, sar_reader = image_readers(self._cfg)
            with SceneSource(rgb, sar, rgb_reader=rgb_reader, sar_reader=sar_reader) as source:
                grid = source.grid
                if grid.width * grid.height > self._max_pixels:
                    raise DataError(
                        f"{rgb or sar} has {grid.width}x{grid.height} pixels, more than the {self._max_pixels / 1e6:g} "
                        "million allowed; cut it into smaller images."
                    )
                image, sar_image = _read_previews(source)
            scene = PageScene(
                rgb=rgb,
                sar=sar,
                class_names=class_names,
                image=None if rgb is None else image,
                sar_image=None if sar is None else sar_image,
                width=grid.width,
                height=grid.height,
                crs=None if grid.crs is None else grid.crs.to_string(),
                folder=folder,
                background=background,
            )
            self.make_map(scene, with_sar=sar is not None, should_stop=should_stop)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return scene

    def make_map(self, scene: PageScene, *, with_sar: bool, should_stop: Callable[[], bool] | None = None) -> PageMap:
        """The map of a scene with or without SAR, computed only once even for simultaneous calls.

        Raises:
            MMOVSegError: the files cannot be used.
            StoppedError: ``should_stop``, as in :meth:`make_scene`, returned True.
        """
        if with_sar not in scene.maps:  # checked first, to avoid waiting for the maps of others
            with self._lock:
                if with_sar not in scene.maps:
                    scene.maps[with_sar] = self._segment(scene, with_sar, should_stop)
        return scene.maps[with_sar]

    def _segment(self, scene: PageScene, with_sar: bool, should_stop: Callable[[], bool] | None) -> PageMap:
        name = "with_sar" if with_sar else "rgb_alone"
        output = scene.folder / name / f"{scene.file.stem[:MAX_STEM]}_map.tif"
        unseen = unseen_names(scene.class_names, self._seen)
        sar = scene.sar if with_sar else None
        self._predictor.set_vocabulary(
            scene.class_names,
            background=scene.background,
            colors=default_colors(scene.class_names),
            unseen=unseen,
        )
        options = SceneOptions(confidence=True, keep_features=scene.features / name, max_features=MAX_FEATURES)
        report = self._predictor.segment(scene.rgb, sar, output, options, should_stop=should_stop)
        warnings = (page_message(warning, scene.rgb, scene.sar) for warning in report.get("warnings", []))
        scene.warnings = tuple(dict.fromkeys((*scene.warnings, *warnings)))
        confidence = sibling(output, "_confidence.tif")
        shape = (scene.sar_image if scene.image is None else scene.image).shape[:2]
        means = _mean_confidences(output, confidence, [entry["value"] for entry in report["classes"]])
        mapped = max(1, sum(entry["pixels"] for entry in report["classes"]))
        return PageMap(
            class_map=_read_shrunk(output, shape),
            confidence=_read_shrunk(confidence, shape),
            classes=[
                {**entry, "share": entry["pixels"] / mapped, "confidence": mean}
                for entry, mean in zip(report["classes"], means, strict=True)
            ],
            sar_share=sar_share(report) or 0.0,
            geotiff=output,
            confidence_geotiff=confidence,
        )


def known_classes(cfg: CfgNode) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The classes of the config's first training dataset.

    Returns:
        The names to propose, and those labelled in training; generic names and None if no dataset is registered.
    """
    names = [name for name in cfg.DATASETS.TRAIN if name in DatasetCatalog]
    metadata = MetadataCatalog.get(names[0]) if names else None
    if metadata is None or not metadata.get("stuff_classes"):
        return GENERIC_CLASSES, None
    classes = tuple(metadata.stuff_classes)
    unseen = unseen_classes(classes, metadata.get("unseen_classes", ()), cfg.DATASETS.UNSEEN)
    return classes, seen_classes(classes, unseen)


def unseen_names(class_names: Sequence[str], seen: Sequence[str] | None) -> tuple[str, ...]:
    """The names without any synonym labelled in training; none if ``seen`` is None (unknown)."""
    if seen is None:
        return ()
    labelled = {synonym.casefold() for name in seen for synonym in split_synonyms(name)}
    return tuple(
        name for name in class_names if labelled.isdisjoint(synonym.casefold() for synonym in split_synonyms(name))
    )


def _read_previews(source: SceneSource) -> tuple[np.ndarray, np.ndarray]:
    """RGB and SAR of a scene as uint8 (h, w, 3), downsampled by averaging, read in strips of rows."""
    height, width = source.grid.height, source.grid.width
    step = -(-max(height, width) // PREVIEW_SIDE)
    size = -(-width // step)
    strips: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    rows_at_once = step * max(1, ROWS_AT_ONCE // step)
    for row in range(0, height, rows_at_once):
        rows = min(rows_at_once, height - row)
        window = source.read(row, 0, rows, width)
        for image, shrunk in zip((window.image, window.sar_image), strips, strict=True):
            shrunk.append(cv2.resize(image, (size, -(-rows // step)), interpolation=cv2.INTER_AREA))
    rgb, sar = (np.concatenate(shrunk) for shrunk in strips)
    return rgb, np.rint(sar).astype(np.uint8)


def _read_shrunk(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A band as uint8 (h, w), downsampled by nearest neighbour."""
    with open_raster(path) as file:
        return file.read(1, out_shape=shape)


def _mean_confidences(class_path: Path, confidence_path: Path, values: Sequence[int]) -> list[float | None]:
    """Mean confidence, 0..1, of the pixels with each value in the map; None for a value without pixels."""
    counts, sums = np.zeros(256), np.zeros(256)
    with RasterSource(class_path) as class_map, RasterSource(confidence_path) as confidence:
        for (_, classes), (_, percent) in zip(class_map.strips(1), confidence.strips(1), strict=True):
            counts += np.bincount(classes.ravel(), minlength=256)
            sums += np.bincount(classes.ravel(), weights=percent.ravel(), minlength=256)
    return [float(sums[index] / counts[index] / 100) if counts[index] else None for index in values]
