"""Counting, for each tile, input and weather, which classes a model's and the baselines' maps give to which pixels."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS
from mm_ovseg.evaluation import count_pixels
from mm_ovseg.inference import SceneOptions, ScenePredictor
from mm_ovseg.raster import open_raster
from sentinel.land_cover import CLASSES
from sentinel.scores.rules import Rule
from sentinel.scores.tiles import Tile

__all__ = [
    "BOTH",
    "CONDITIONS",
    "RGB_ALONE",
    "SAR_ALONE",
    "Condition",
    "Counts",
    "count_constant",
    "count_model",
    "count_rule",
    "make_map",
    "map_path",
    "read_map",
]

Condition = tuple[str, str]  # the images, and the weather that RGB shows
BOTH, RGB_ALONE, SAR_ALONE = "RGB and SAR", "RGB alone", "SAR alone"
CONDITIONS: tuple[Condition, ...] = (
    (BOTH, "clear"),
    (RGB_ALONE, "clear"),
    (BOTH, "clouds"),
    (RGB_ALONE, "clouds"),
    (SAR_ALONE, "any"),
)
# Tile -> condition -> pixels (T + 1, T + 1), truth by map; the last row and column are "none of the classes".
Counts = dict[str, dict[Condition, np.ndarray]]


def count_model(predictor: ScenePredictor, tiles: Sequence[Tile], output: Path) -> Counts:
    """Map each tile in each condition as `mm-ovseg scene` does, and count.

    Args:
        predictor: Of :data:`~sentinel.land_cover.CLASSES`.
        tiles: The tiles.
        output: Folder for the maps; see :func:`map_path`.
    """

    def map_images(tile: Tile, condition: Condition, number: int, rgb: Path | None, sar: Path | None) -> np.ndarray:
        return make_map(predictor, rgb, sar, map_path(output, tile, condition, number))

    return {tile.name: _count(tile, map_images) for tile in tiles}


def count_rule(rule: Rule, tiles: Sequence[Tile], cfg: CfgNode) -> Counts:
    """Apply a rule to each tile in each condition, on the images that the config's model would see, and count."""
    readers = image_readers(cfg)

    def apply(tile: Tile, condition: Condition, number: int, rgb: Path | None, sar: Path | None) -> np.ndarray:
        pairs = zip(readers, (rgb, sar), strict=True)
        return rule(*(None if path is None else reader.read_file(path)[0] for reader, path in pairs))

    return {tile.name: _count(tile, apply) for tile in tiles}


def count_constant(tiles: Sequence[Tile]) -> tuple[str, Counts]:
    """The class that most pixels of all tiles have, and the counts of a map of it alone, the best constant.

    It knows the true land cover, which no map does.
    """
    truths = {tile.name: tile.read_truth() for tile in tiles}
    pixels = sum(np.bincount(truth[truth != NODATA_CLASS], minlength=len(CLASSES)) for truth in truths.values())
    best = int(np.argmax(pixels))
    counts = {name: _confusion(truth, np.full_like(truth, best)) for name, truth in truths.items()}
    return CLASSES[best], {name: dict.fromkeys(CONDITIONS, found) for name, found in counts.items()}


def map_path(output: Path, tile: Tile, condition: Condition, number: int) -> Path:
    """The file of a map; ``number`` counts the images of the condition's weather from 0."""
    folder = "_".join(condition).replace(" ", "_").lower()
    return output / folder / f"{tile.name}_{number}.tif"


def make_map(predictor: ScenePredictor, rgb: Path | None, sar: Path | None, path: Path) -> np.ndarray:
    """Map images into a file, unless the same map is there already; see :func:`read_map`."""
    if predictor.finished_report(rgb, sar, path, SceneOptions()) is None:
        predictor.segment(rgb, sar, path)
    return read_map(path)


def read_map(path: Path) -> np.ndarray:
    """A map of classes (H, W), 254 for none of them, 255 without data."""
    with open_raster(path) as file:
        return file.read(1)


def _count(tile: Tile, map_images: Callable[..., np.ndarray]) -> Mapping[Condition, np.ndarray]:
    truth, counts = tile.read_truth(), {}
    for condition in CONDITIONS:
        inputs, weather = condition
        sar = None if inputs == RGB_ALONE else tile.sar
        images = (None,) if inputs == SAR_ALONE else tile.images(weather)
        counts[condition] = sum(
            _confusion(truth, map_images(tile, condition, number, rgb, sar)) for number, rgb in enumerate(images)
        )
    return counts


def _confusion(truth: np.ndarray, class_map: np.ndarray) -> np.ndarray:
    class_map = np.where(class_map == NODATA_CLASS, NONE_CLASS, class_map)  # wrong, too
    return count_pixels(truth, class_map, len(CLASSES), NODATA_CLASS, has_none=True)
