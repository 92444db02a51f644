"""Making the page's maps: from a scene and typed class names to the files of a map."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.app.messages import page_message
from mm_ovseg.app.page_map import PageMap
from mm_ovseg.app.place import Window
from mm_ovseg.app.scenes import Progress, Scene
from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import write_json
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from mm_ovseg.inference.scene_files import sibling
from mm_ovseg.vocabulary import GENERIC_CLASSES, parse_class_names, seen_classes, split_synonyms, unseen_classes

__all__ = ["MapMaker", "Question", "known_classes", "unseen_names"]

MAX_FEATURES = 1  # gigabytes, of each question
MAX_SCORES = 400_000_000  # pixels times classes; the scores of larger maps are not kept
BOTH, RGB, SAR = "both", "rgb", "sar"
# Of the report: what has no paths of the server.
REPORTED = ("classes", "coverage", "grid", "windows", "covered_by_sar_file", "shift", "mm_ovseg_version")


@dataclass(frozen=True)
class Question:
    """What a visitor asks about a scene.

    Attributes:
        class_names: the names to look for.
        background: names that compete with them, and are mapped to "none"; None for the default ones.
        sensors: "both", "rgb" or "sar".
        window: the part of the scene; None for all of it.
    """

    class_names: tuple[str, ...]
    background: tuple[str, ...] | None = None
    sensors: str = BOTH
    window: Window | None = None

    @classmethod
    def typed(cls, scene: Scene, classes: str, background: str, sensors: str, window: Window | None) -> "Question":
        """A question as visitors type it.

        Args:
            scene: what it is about.
            classes: "water,road,city", or with synonyms "water,river,lake; road,street".
            background: spelled like them; "" for the default ones.
            sensors: "both", "rgb" or "sar".
            window: the part of the scene; None for all of it.

        Raises:
            VocabularyError: a name is empty or repeated.
            ConfigError: the scene has no such image.
        """
        # Not read_vocabulary, which opens files.
        class_names = parse_class_names(classes)
        competing = parse_class_names(background) if background.strip() else None
        if sensors not in (BOTH, RGB, SAR) or (sensors != BOTH and sensors not in scene.images):
            raise ConfigError("The scene has no such image; choose another one to make the map from.")
        if len(scene.images) == 1:
            sensors = scene.images[0]
        return cls(class_names, competing, sensors, None if window == (0, 0, *scene.place.grid.shape) else window)


class MapMaker:
    """Makes the maps of the page with one model, one at a time.

    Args:
        cfg: a config of the ``MMOVSeg`` meta-architecture.

    Attributes:
        classes: the class names that the page proposes.

    Raises:
        ConfigError, VocabularyError, CheckpointError: as of :class:`~mm_ovseg.inference.predictor.Predictor`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.classes, self._seen = known_classes(cfg)
        self._predictor = ScenePredictor(cfg, self.classes, any_format=False)

    def make_map(
        self,
        scene: Scene,
        question: Question,
        folder: Path,
        *,
        features: Path,
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> PageMap:
        """Answer a question about a scene.

        Args:
            scene: the scene.
            question: the question.
            folder: an empty one; its name becomes the id of the map.
            features: a folder that keeps the encoders' features, for other names at the next question.
            progress: called with the numbers of finished windows and of all, and "windows".
            should_stop: called before each batch of windows and each layer; returns True if the map is no longer
                wanted.

        Raises:
            MMOVSegError: the files or the names cannot be used; :mod:`mm_ovseg.app.messages` rewords it for visitors.
            StoppedError: ``should_stop`` returned True. In either case, the folder is removed.
        """
        begin = time.monotonic()
        rgb, sar = (getattr(scene.files, kind) if question.sensors in (BOTH, kind) else None for kind in ("rgb", "sar"))
        clouds = None if rgb is None else scene.files.clouds
        size = scene.place.grid.shape if question.window is None else question.window[2:]
        options = SceneOptions(
            confidence=True,
            probabilities=size[0] * size[1] * len(question.class_names) <= MAX_SCORES,
            part=question.window,
            clouds=clouds.path if clouds else None,
            cloud_values=clouds.values if clouds else None,
            keep_features=features / question.sensors,
            max_features=MAX_FEATURES,
        )
        kept = len(list(options.keep_features.glob("*.safetensors")))
        output = folder / "map.tif"
        try:
            with self._predictor.lock:
                self._predictor.cfg = scene.cfg
                self._predictor.set_vocabulary(
                    question.class_names,
                    background=question.background,
                    unseen=unseen_names(question.class_names, self._seen),
                )
                report = self._predictor.segment(
                    *(None if paths is None else list(paths) for paths in (rgb, sar)),
                    output,
                    options,
                    should_stop=should_stop,
                    on_progress=lambda done, total: progress(done, total, "windows"),
                )
            warnings = [page_message(warning, scene.files.names) for warning in report["warnings"]]
            page_map = PageMap(
                id=folder.name,
                folder=folder,
                scene=scene,
                window=question.window or (0, 0, *scene.place.grid.shape),
                sensors=question.sensors,
                entries=[_legend_entry(entry) for entry in report["classes"]],
                seconds=round(time.monotonic() - begin, 3),
                asked_again=report["windows_from_features"] > 0 and kept == report["windows"],
                warnings=warnings,
                has_scores=options.probabilities,
            )
            _write_report(page_map, report)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return page_map


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


def _legend_entry(entry: dict[str, Any]) -> LegendEntry:
    return LegendEntry(entry["name"], tuple(entry["color"]), entry["unseen"], entry["value"])


def _write_report(page_map: PageMap, report: dict[str, Any]) -> None:
    """Replace the report by one without what concerns the server alone, such as its paths."""
    path = sibling(page_map.geotiff, ".json")
    files = page_map.scene.files
    names = {kind: [files.names[file] for file in getattr(files, kind) or ()] for kind in ("rgb", "sar")}
    content = {
        **{key: report[key] for key in REPORTED if key in report},
        "images": {kind: names[kind] for kind in ("rgb", "sar") if page_map.sensors in (BOTH, kind)},
        "reading": dict(page_map.scene.reading),
        "decision": {key: report["settings"][key] for key in ("background", "min_scores", "margin")},
        "weights_sha256": report["weights"]["sha256"],
        "attribution": files.attribution,
        "warnings": list(page_map.warnings),
    }
    write_json(path, content)
