"""Mosaics of scenes of one class each, with a dense label: RGB alone, for the second stage.

The scenes of AID, NWPU-RESISC45 and RSSCN7 show one class nearly everywhere, so each gives its class to the cell of a
mosaic that it fills. Only water is found in its scenes by colour and texture; their other ground stays unlabelled.
A mosaic has 2 to 6 cells with wavy, unlabelled borders. A scene is flipped, turned, scaled, repeated
as its mirror image where the cell is larger, and made as bright as its class is in Sentinel-2's surface reflectance,
since the scenes are photographs with haze and unknown curves.

The SAR images have no valid pixel, which means a pair without SAR if INPUT.SAR.MAY_BE_EMPTY is True.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import trange

from mm_ovseg.errors import DataError
from sentinel.archive import Archive, write_image
from sentinel.classes import CLASSES, UNLABELLED

__all__ = ["SOURCES", "SceneSource", "draw_mosaic", "find_water", "scenes_of", "write_mosaics"]

SIZE = 224  # pixels
NUM_MOSAICS = {"train": 1500, "val": 150}
HELD_OUT = 0.1  # share of the scenes of each folder, the last ones by number, for validation
SEAM = 5  # pixels, unlabelled between two cells
WAVES, WAVE_HEIGHT = 28.0, 14.0  # pixels: length and height of the waves of a border
SCALES = (0.5, 1.2)
# Mean of the three channels of Sentinel-2's surface reflectance, 0..0.3 -> 0..255.
BRIGHTNESS = {
    "water": (8, 60),
    "forest": (20, 60),
    "farmland": (50, 130),
    "city": (70, 140),
    "industrial area": (90, 170),
    "grassland": (45, 120),
    "bare ground": (90, 200),
}
GAINS = (0.35, 1.6)  # limits of the change in brightness
WATER_WINDOW, WATER_DEVIATION, MIN_WATER = 7, 4.5, 0.12  # pixels, of 255, share of the scene
MAX_TRIES = 1000  # to find a scene with water; about every third has some


@dataclass(frozen=True)
class SceneSource:
    """A folder of scenes of one class in an archive."""

    archive: str
    folder: str
    class_name: str


SOURCES = (
    *(SceneSource("aid.zip", folder, "water") for folder in ("Beach/", "Pond/")),
    *(SceneSource("nwpu12.zip", folder, "water") for folder in ("train/beach/", "train/lake/")),
    SceneSource("rsscn7.zip", "dRiverLake/", "water"),
    SceneSource("aid.zip", "Forest/", "forest"),
    SceneSource("nwpu12.zip", "train/forest/", "forest"),
    SceneSource("rsscn7.zip", "eForest/", "forest"),
    SceneSource("aid.zip", "Farmland/", "farmland"),
    SceneSource("nwpu12.zip", "train/farmland/", "farmland"),
    SceneSource("rsscn7.zip", "bField/", "farmland"),
    *(SceneSource("aid.zip", folder, "city") for folder in ("Commercial/", "DenseResidential/", "MediumResidential/")),
    *(SceneSource("nwpu12.zip", folder, "city") for folder in ("train/commercial_area/", "train/residential/")),
    SceneSource("rsscn7.zip", "fResident/", "city"),
    SceneSource("aid.zip", "Industrial/", "industrial area"),
    SceneSource("nwpu12.zip", "train/industrial_area/", "industrial area"),
    SceneSource("rsscn7.zip", "cIndustry/", "industrial area"),
    SceneSource("aid.zip", "Meadow/", "grassland"),
    SceneSource("rsscn7.zip", "aGrass/", "grassland"),
    SceneSource("aid.zip", "BareLand/", "bare ground"),
    SceneSource("aid.zip", "Desert/", "bare ground"),
    SceneSource("nwpu12.zip", "train/desert/", "bare ground"),
)


def find_water(rgb: np.ndarray) -> np.ndarray:
    """Where a scene, uint8 (H, W, 3), certainly shows water: bool (H, W), smooth, not green, and bluish or dark."""
    image = cv2.GaussianBlur(rgb, (0, 0), 1.0).astype(np.float32)
    grey = rgb.astype(np.float32).mean(axis=2)
    window = (WATER_WINDOW, WATER_WINDOW)
    deviation = np.sqrt(np.maximum(cv2.blur(grey**2, window) - cv2.blur(grey, window) ** 2, 0))
    red, green, blue = np.moveaxis(image, 2, 0)
    is_blue = (blue > red + 8) & (blue > green - 10)
    is_dark = (image.mean(axis=2) < 55) & (blue >= red) & (blue > green - 6)
    water = np.uint8((deviation < WATER_DEVIATION) & (is_blue | is_dark))
    water = cv2.morphologyEx(water, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(water)
    large = [part for part in range(1, count) if statistics[part, cv2.CC_STAT_AREA] >= MIN_WATER * water.size]
    return np.isin(parts, large)


def draw_mosaic(scenes: list[tuple[np.ndarray, int]], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A mosaic of scenes and its label.

    Args:
        scenes: Each an image, uint8 (h, w, 3), and the index of its class; scenes of water have some.
        rng: What chance decides.

    Returns:
        rgb: uint8 (SIZE, SIZE, 3).
        label: uint8 (SIZE, SIZE), indices into CLASSES or UNLABELLED.
    """
    cells = _draw_cells(len(scenes), rng)
    rgb = np.zeros((SIZE, SIZE, 3), np.uint8)
    label = np.full((SIZE, SIZE), UNLABELLED, np.uint8)
    for cell, (scene, class_index) in enumerate(scenes):
        known = np.ones(scene.shape[:2], bool)
        if CLASSES[class_index] == "water":
            known = find_water(scene)
            scene, known = _crop(scene, known), _crop(known, known)
        scene = _brighten(scene, known, class_index, rng)
        scene, known = _fill(scene, known, rng)
        rgb[cells == cell] = scene[cells == cell]
        label[(cells == cell) & known] = class_index
    kernel = np.ones((SEAM, SEAM), np.uint8)
    label[cv2.dilate(cells, kernel) != cv2.erode(cells, kernel)] = UNLABELLED
    return rgb, label


def _crop(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The smallest part of an image (H, W, ...) that has all True pixels of ``known``."""
    rows, columns = np.nonzero(known)
    return image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _draw_cells(count: int, rng: np.random.Generator) -> np.ndarray:
    """Voronoi cells with wavy borders, uint8 (SIZE, SIZE)."""
    waves = cv2.GaussianBlur(rng.standard_normal((2, SIZE, SIZE)).transpose(1, 2, 0), (0, 0), WAVES / 4)
    waves *= WAVE_HEIGHT / 2 / waves.std()
    places = np.stack(np.mgrid[:SIZE, :SIZE], axis=2) + waves
    points = rng.uniform(0, SIZE, (count, 2))
    return np.argmin([((places - point) ** 2).sum(axis=2) for point in points], axis=0).astype(np.uint8)


def _brighten(scene: np.ndarray, known: np.ndarray, class_index: int, rng: np.random.Generator) -> np.ndarray:
    """A scene as bright as its class in Sentinel-2, its colours varied a little."""
    low, high = BRIGHTNESS[CLASSES[class_index]]
    brightness = np.exp(rng.uniform(np.log(low), np.log(high)))
    gain = np.clip(brightness / max(scene[known].mean(), 1.0), *GAINS)
    gains = np.float32(gain * rng.uniform(0.92, 1.08, 3))
    return np.clip(scene * gains, 0, 255).astype(np.uint8)


def _fill(scene: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A scene, and what of it is labelled, turned, scaled and repeated to the size of a mosaic."""
    scale = np.exp(rng.uniform(*np.log(SCALES)))
    size = (round(scene.shape[1] * scale), round(scene.shape[0] * scale))
    turns, is_flipped = rng.integers(4), rng.integers(2)
    shift = rng.integers(0, SIZE, 2)
    filled = []
    for image, how in ((scene, cv2.INTER_AREA), (known.astype(np.uint8), cv2.INTER_NEAREST)):
        image = np.rot90(cv2.resize(image, size, interpolation=how), turns)
        image = image[:, ::-1] if is_flipped else image
        mirrored = np.concatenate([image, image[::-1]])
        mirrored = np.concatenate([mirrored, mirrored[:, ::-1]], axis=1)
        rows, columns = ((np.arange(SIZE) + shift[axis]) % mirrored.shape[axis] for axis in (0, 1))
        filled.append(mirrored[rows][:, columns])
    return filled[0], filled[1].astype(bool)


def write_mosaics(source: Path, output: Path, seed: int = 0) -> None:
    """Write ``output/{train,val}/{rgb,sar,labels}/NNNNN.tif``; finished mosaics are not written again.

    Mosaic i of a split depends only on the seed, the split and i.

    Args:
        source: Folder of the zip archives.
        output: Folder of the mosaics.
        seed: Non-negative.

    Raises:
        DataError: An archive cannot be read, or a file not be written.
    """
    archives = {name: Archive(source / name) for name in sorted({source.archive for source in SOURCES})}
    try:
        for index, split in enumerate(NUM_MOSAICS):
            scenes = scenes_of(split, archives)
            for number in trange(NUM_MOSAICS[split], desc=f"{split} mosaics"):
                path = output / split / "labels" / f"{number:05d}.tif"
                if path.exists():
                    continue
                rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, number)))
                rgb, label = draw_mosaic(_choose(scenes, archives, rng), rng)
                write_image(path.parents[1] / "rgb" / path.name, rgb)
                nothing = np.zeros((SIZE, SIZE), np.uint8)
                write_image(path.parents[1] / "sar" / path.name, nothing, valid=nothing.astype(bool))
                write_image(path, label)
    finally:
        for archive in archives.values():
            archive.close()


def scenes_of(split: str, archives: dict[str, Archive]) -> dict[int, list[list[tuple[str, str]]]]:
    """Class index -> of each of its folders the archives and names of the scenes of a split."""
    scenes: dict[int, list[list[tuple[str, str]]]] = {}
    for source in SOURCES:
        names = archives[source.archive].names(source.folder)
        if len(names) < 1 / HELD_OUT:
            raise DataError(
                f"{archives[source.archive].path} has {len(names)} scenes in {source.folder}; copy it again."
            )
        first_held_out = round(len(names) * (1 - HELD_OUT))
        chosen = names[:first_held_out] if split == "train" else names[first_held_out:]
        scenes.setdefault(CLASSES.index(source.class_name), []).append([(source.archive, name) for name in chosen])
    return scenes


def _choose(scenes: dict, archives: dict[str, Archive], rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    """The scenes of a mosaic: classes are as common as each other, and so are the folders of a class."""
    chosen = []
    for class_index in rng.integers(len(CLASSES), size=rng.integers(2, 7)):
        for _ in range(MAX_TRIES):
            folders = scenes[class_index]
            folder = folders[rng.integers(len(folders))]
            archive, name = folder[rng.integers(len(folder))]
            scene = archives[archive].read(name)
            if CLASSES[class_index] != "water" or find_water(scene).any():
                chosen.append((scene, int(class_index)))
                break
        else:
            raise DataError(f"{MAX_TRIES} scenes of water, the last one {name} in {archive}, show none; copy it again.")
    return chosen
