"""The pictures of the card: the best and the worst tile, and pairs to look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.inference import ScenePredictor
from mm_ovseg.visualization.panels import PanelRow, draw_panels
from sentinel.land_cover import CLASSES
from sentinel.scores.measure import BOTH, RGB_ALONE, SAR_ALONE, Counts, make_map, map_path, read_map
from sentinel.scores.tables import accuracy
from sentinel.scores.tiles import Tile

__all__ = ["draw_pairs_to_look_at", "draw_tiles", "rank_tiles"]

DPI = 100
WEATHERS = ("clear", "clouds")


def rank_tiles(seeds: Sequence[Counts]) -> list[tuple[str, float]]:
    """Tiles by the pixels that maps from both images get right, clear and under clouds, mean over seeds; best first.

    Returns:
        (tile, percentage).
    """
    found = {
        tile: float(np.mean([accuracy(counts, [tile], (BOTH, weather)) for counts in seeds for weather in WEATHERS]))
        for tile in seeds[0]
    }
    return sorted(found.items(), key=lambda item: -item[1])


def draw_tiles(path: Path, cfg: CfgNode, tiles: Mapping[str, tuple[Tile, Path]]) -> None:
    """Draw tiles with their true land cover and their maps, clear and under the first clouds.

    Args:
        path: The picture.
        cfg: ``INPUT`` says how images are read.
        tiles: Title -> tile, and the folder of its maps.
    """
    rows = []
    for title, (tile, maps) in tiles.items():
        for weather in WEATHERS:
            predictions = {inputs: read_map(map_path(maps, tile, (inputs, weather), 0)) for inputs in (BOTH, RGB_ALONE)}
            images = _read_images(cfg, tile.images(weather)[0], tile.sar)
            rows.append(PanelRow(*images, tile.read_truth(), predictions, f"{title}, {weather}"))
    draw_panels(path, rows, classes=CLASSES, colors=None, dpi=DPI)


def draw_pairs_to_look_at(
    path: Path, predictor: ScenePredictor, pairs: Mapping[str, tuple[Path, Path]], maps: Path
) -> None:
    """Map pairs from both images and from each alone, into the folder ``maps``, and draw them."""
    rows = []
    for number, (title, (rgb, sar)) in enumerate(pairs.items()):
        inputs = {BOTH: (rgb, sar), RGB_ALONE: (rgb, None), SAR_ALONE: (None, sar)}
        predictions = {
            name: make_map(predictor, *images, maps / f"{number}_{name.replace(' ', '_').lower()}.tif")
            for name, images in inputs.items()
        }
        rows.append(PanelRow(*_read_images(predictor.cfg, rgb, sar), None, predictions, title))
    draw_panels(path, rows, classes=CLASSES, colors=None, dpi=DPI)


def _read_images(cfg: CfgNode, rgb: Path, sar: Path) -> tuple[np.ndarray, np.ndarray]:
    """RGB (H, W, 3), and the first polarisation of SAR (H, W), 0..255."""
    rgb_reader, sar_reader = image_readers(cfg)
    return rgb_reader.read_file(rgb)[0], sar_reader.read_file(sar)[0][..., 0]
