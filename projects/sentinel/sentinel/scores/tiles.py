"""The tiles that the model is tested on: pairs of images with true land cover, clear and under drawn clouds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from mm_ovseg.data.catalog import label_scheme, list_pairs
from mm_ovseg.data.cloudy_images import IMAGES, CloudSettings, add_clouds
from mm_ovseg.raster import RasterSource
from sentinel.land_cover import CLASSES, TERRAMIND_CLASSES, truth_reader
from sentinel.terramind import find_sites, write_site

__all__ = ["CLOUDS", "CLOUD_SEEDS", "Tile", "dataset_tiles", "draw_clouds", "terramind_tiles"]

CLOUDS = CloudSettings(kind="thick", cover=(0.3, 0.6))
CLOUD_SEEDS = (0, 1, 2)  # each tile is mapped under the clouds of each


@dataclass(frozen=True)
class Tile:
    """A pair of images with true land cover.

    Attributes:
        name: Unique among the tiles of its set.
        rgb: The clear image.
        sar: The file.
        label: The file of the true land cover.
        names: Its values -> names; other values are ignored.
        cloudy: The RGB image under clouds, once for each of :data:`CLOUD_SEEDS`; empty until they are drawn.
    """

    name: str
    rgb: Path
    sar: Path
    label: Path
    names: Mapping[int, str]
    cloudy: tuple[Path, ...] = ()

    def images(self, weather: str) -> tuple[Path, ...]:
        """The RGB images in a weather, "clear" or "clouds"."""
        return (self.rgb,) if weather == "clear" else self.cloudy

    def read_truth(self) -> np.ndarray:
        """The true land cover as indices into :data:`~sentinel.land_cover.CLASSES`, 255 where ignored; uint8 (H, W).

        Raises:
            DataError: the file cannot be read, or is not a label map.
        """
        with RasterSource(self.label) as source:
            return truth_reader(self.names, CLASSES).read(source)[0]


def terramind_tiles(folder: Path, work: Path) -> list[Tile]:
    """TerraMind's tiles, written into ``work`` as files that say their units, unless they are there already.

    Raises:
        DataError: The dataset is empty, or a file cannot be read.
    """
    tiles = []
    for site in find_sites(folder):
        files = {kind: work / kind / f"{site}.tif" for kind in ("rgb", "sar", "label")}
        if not all(path.is_file() for path in files.values()):
            write_site(folder, site, files)
        tiles.append(Tile(site, **files, names=TERRAMIND_CLASSES))
    return tiles


def dataset_tiles(dataset: str, work: Path) -> list[Tile]:
    """The pairs of a registered dataset, whose RGB images are linked in ``work`` for the clouds.

    Raises:
        ConfigError: The dataset is not registered.
        DataError: It has no pairs, or no labels.
        VocabularyError: It has no classes.
    """
    pairs = list_pairs(dataset, "--pairs", ["file_name", "sar_file_name", "sem_seg_file_name"])
    scheme = label_scheme(MetadataCatalog.get(dataset))
    indices = scheme.label_values or {index: index for index in range(len(scheme.classes))}
    names = {value: scheme.classes[index] for value, index in indices.items() if index != scheme.ignore_label}
    tiles = []
    for pair in pairs:
        rgb = Path(pair["file_name"]).absolute()
        name = str(pair.get("image_id", rgb.stem))
        link = work / "rgb" / f"{name}{rgb.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(rgb)
        tiles.append(Tile(name, link, Path(pair["sar_file_name"]), Path(pair["sem_seg_file_name"]), names))
    return tiles


def draw_clouds(tiles: Sequence[Tile], work: Path, cfg: CfgNode) -> list[Tile]:
    """The tiles with their RGB images under clouds, which are drawn into ``work`` unless they are there already.

    Args:
        tiles: Tiles whose clear images are all that ``work``/rgb holds.
        work: The folder.
        cfg: ``INPUT.RGB`` says how the images are read.

    Raises:
        ConfigError: The library that draws the clouds is not installed.
        DataError: An image cannot be read, or the clouds in ``work`` were drawn with other settings.
    """
    reading = {"rgb_bands": tuple(cfg.INPUT.RGB.BANDS), "rgb_range": tuple(cfg.INPUT.RGB.RANGE)}
    for seed in CLOUD_SEEDS:
        add_clouds(work / "rgb", work / f"clouds_{seed}", replace(CLOUDS, seed=seed, **reading))
    folders = [work / f"clouds_{seed}" / IMAGES for seed in CLOUD_SEEDS]
    return [replace(tile, cloudy=tuple(folder / tile.rgb.name for folder in folders)) for tile in tiles]
