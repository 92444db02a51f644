"""Dense labels of the real pairs: clusters of pixels, named by eye.

In each group of scenes that look alike, k-means of what RGB and SAR show around a pixel found the clusters; a person
looked at pixels of each, in RGB and SAR, and named it with a class or, where it is mixed, with none. The centres and
names are in ``clusters.json`` beside this package; a label is the name of the nearest centre, smoothed by majority,
without specks, and without borders between two classes. Doubtful pixels stay unlabelled.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.cluster.vq import kmeans2
from tqdm import tqdm

from mm_ovseg.errors import DataError
from mm_ovseg.raster import read_rgb, read_sar
from sentinel.archive import write_image
from sentinel.classes import CLASSES, UNLABELLED

__all__ = [
    "CLUSTERS",
    "GROUPS",
    "clean_label",
    "find_clusters",
    "group_of",
    "label_pair",
    "pixel_features",
    "write_labels",
]

CLUSTERS = Path(__file__).resolve().parents[1] / "clusters.json"
# Group -> number of clusters, and the scenes of sentinel.pairs in it.
GROUPS = {
    "farmland": (16, ("farmland",)),
    "hills": (16, ("hills",)),
    "dry": (12, ("dry",)),
    "suburbs": (16, ("suburbs",)),
    "india": (24, ("india1", "india3")),
    "india_hills": (16, ("india2",)),
    "california": (32, ("losangeles", "coast", "inland")),
    "texas": (32, ("sanantonio",)),
}
NEAR, WIDE = 7, 21  # pixels, the sides of the windows
VOTE, MIN_SHARE, MIN_AGREEMENT = 15, 0.45, 0.85  # pixels, share of the window, share of the votes
MIN_AREA, BORDER = 300, 3  # pixels
MAX_DISTANCE = 2.3  # to the nearest centre, in standard deviations
WATER_ROOTS = (7.2, 8.5, 8.0)  # of the mean of red, green and blue
WATER_GREENNESS = 0.5  # root of green less root of red
SMOOTH, SMOOTH_WATER_SAR, ROUGH_WATER_SAR = 2.5, 105, 75  # logarithm of the deviation; -21.7 and -24.6 dB in VH
MAX_TILES, PIXELS_PER_TILE = 40, 400  # of a group, to find its clusters


def group_of(name: str) -> str:
    """The group of a tile.

    Raises:
        DataError: The name is not that of a tile that prepare.py writes.
    """
    scene = name.split("_")[0]
    for group, (_, scenes) in GROUPS.items():
        if scene in scenes:
            return group
    raise DataError(f"{name}.tif is not a tile that prepare.py writes; move it out of the folder of the pairs.")


def pixel_features(rgb: np.ndarray, sar: np.ndarray) -> np.ndarray:
    """What is around each pixel, float32 (H, W, 10), of RGB, uint8 (H, W, 3), and SAR, 0..255 (H, W).

    Root of the mean of red, green and blue, logarithm of the deviation of grey, and mean of SAR, in NEAR; root of the
    mean of grey, mean of green less red, logarithm of the deviation of grey, mean and deviation of SAR, in WIDE.
    """
    image, sar = rgb.astype(np.float32), sar.astype(np.float32)
    grey = image.mean(axis=2)
    near, wide = (np.sqrt(cv2.blur(image, (side, side))) for side in (NEAR, WIDE))
    green_less_red = wide[..., 1] - wide[..., 0]
    return np.stack([
        *np.moveaxis(near, 2, 0),
        np.log1p(_deviation(grey, NEAR)),
        cv2.blur(sar, (NEAR, NEAR)),
        np.sqrt(cv2.blur(grey, (WIDE, WIDE))),
        green_less_red,
        np.log1p(_deviation(grey, WIDE)),
        cv2.blur(sar, (WIDE, WIDE)),
        _deviation(sar, WIDE),
    ], axis=2)  # fmt: skip


def _deviation(image: np.ndarray, side: int) -> np.ndarray:
    return np.sqrt(np.maximum(cv2.blur(image**2, (side, side)) - cv2.blur(image, (side, side)) ** 2, 0))


def find_clusters(features: np.ndarray, count: int, seed: int = 0) -> dict[str, list]:
    """Clusters of pixels, float (n, 10), as clusters.json holds them, without names.

    Returns:
        mean, deviation: Of each feature, by which they are standardised.
        centres: (count, 10), of standardised features.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    centres, _ = kmeans2((features - mean) / deviation, count, iter=40, minit="++", seed=seed)
    return {name: np.round(values, 3).tolist() for name, values in
            (("mean", mean), ("deviation", deviation), ("centres", centres))}  # fmt: skip


def nearest_cluster(features: np.ndarray, clusters: dict[str, list]) -> tuple[np.ndarray, np.ndarray]:
    """The index of the nearest centre of each pixel of float32 (H, W, 10), and the distance to it: both (H, W)."""
    centres = np.float32(clusters["centres"])
    standard = (features - np.float32(clusters["mean"])) / np.float32(clusters["deviation"])
    squares = (standard**2).sum(axis=2, keepdims=True) + (centres**2).sum(axis=1) - 2 * standard @ centres.T
    return squares.argmin(axis=2), np.sqrt(np.maximum(squares.min(axis=2), 0))


def is_water(features: np.ndarray) -> np.ndarray:
    """Where it is dark in RGB and SAR, so water whatever the clusters (rare in most samples): bool (H, W).

    The narrower the water, the rougher are its surroundings, and the darker it must be in SAR; so must brown water,
    since dry slopes in shadow are brown.
    """
    is_dark = (features[..., :3] < np.float32(WATER_ROOTS)).all(axis=2)
    is_smooth, sar = features[..., 3] < SMOOTH, features[..., 4]
    is_green = features[..., 1] > features[..., 0] + WATER_GREENNESS
    return is_dark & ((is_smooth & is_green & (sar < SMOOTH_WATER_SAR)) | (sar < ROUGH_WATER_SAR))


def clean_label(label: np.ndarray) -> np.ndarray:
    """A label, uint8 (H, W), smoothed: the vote of the labelled pixels around each pixel.

    Without labels are pixels where few pixels vote or the vote is divided, specks, and borders between two classes.
    """
    window = (VOTE, VOTE)
    shares = np.stack([cv2.blur(np.float32(label == index), window) for index in range(len(CLASSES))])
    most, all_votes = shares.max(axis=0), shares.sum(axis=0)
    is_clear = (most >= MIN_SHARE) & (most >= MIN_AGREEMENT * all_votes)
    clean = np.where(is_clear, shares.argmax(axis=0), UNLABELLED).astype(np.uint8)
    for index in range(len(CLASSES)):
        _, parts, statistics, _ = cv2.connectedComponentsWithStats(np.uint8(clean == index))
        small = np.flatnonzero(statistics[:, cv2.CC_STAT_AREA] < MIN_AREA)
        clean[np.isin(parts, small[small > 0])] = UNLABELLED
    kernel = np.ones((BORDER, BORDER), np.uint8)
    lowest, highest = cv2.erode(clean, kernel), cv2.dilate(clean + np.uint8(1), kernel) - np.uint8(1)
    return np.where((lowest != highest) & (highest != UNLABELLED), UNLABELLED, clean).astype(np.uint8)


def read_pair(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """RGB and SAR of a tile, uint8 and float32 (H, W, 3), by the path of its RGB image."""
    return read_rgb(path)[0], read_sar(path.parents[1] / "sar" / path.name)[0]


def sample_group(folder: Path, group: str, seed: int = 0) -> tuple[list[tuple[Path, int, int]], np.ndarray]:
    """Random pixels of tiles that are spread evenly over a group.

    Args:
        folder: Folder with ``rgb`` and ``sar``.
        group: Name of the group.
        seed: Non-negative.

    Returns:
        places: RGB image, row and column of each pixel.
        features: float32 (n, 10), see :func:`pixel_features`.

    Raises:
        DataError: The folder has no tiles of the group.
    """
    paths = [path for path in sorted((folder / "rgb").glob("*.tif")) if group_of(path.stem) == group]
    if not paths:
        raise DataError(f"{folder / 'rgb'} has no tiles of {group}; run projects/sentinel/prepare.py first.")
    paths = [paths[index] for index in np.unique(np.linspace(0, len(paths) - 1, MAX_TILES).astype(int))]
    rng = np.random.default_rng(seed)
    places, features = [], []
    for path in paths:
        rgb, sar = read_pair(path)
        rows, columns = (rng.integers(0, side, PIXELS_PER_TILE) for side in rgb.shape[:2])
        places += [(path, int(row), int(column)) for row, column in zip(rows, columns, strict=True)]
        features.append(pixel_features(rgb, sar[..., 0])[rows, columns])
    return places, np.concatenate(features)


def label_pair(rgb: np.ndarray, sar: np.ndarray, clusters: dict[str, list]) -> np.ndarray:
    """The label of a tile, uint8 (H, W): indices into CLASSES or UNLABELLED; see this module.

    Args:
        rgb: uint8 (H, W, 3).
        sar: 0..255 (H, W).
        clusters: Those of its group in clusters.json.
    """
    names = np.uint8([UNLABELLED if name is None else CLASSES.index(name) for name in clusters["names"]])
    features = pixel_features(rgb, sar)
    nearest, distance = nearest_cluster(features, clusters)
    label = np.where(distance < MAX_DISTANCE, names[nearest], UNLABELLED)
    return clean_label(np.where(is_water(features), CLASSES.index("water"), label))


def write_labels(pairs: Path) -> None:
    """Write ``labels`` beside ``rgb`` and ``sar`` of all pairs; finished labels are not written again.

    Args:
        pairs: Folder with ``train`` and ``val``.

    Raises:
        DataError: An image cannot be read, or a label not be written.
    """
    clusters = json.loads(CLUSTERS.read_text(encoding="utf-8"))
    paths = sorted(pairs.glob("*/rgb/*.tif"))
    if not paths:
        raise DataError(f"{pairs} has no images */rgb/*.tif; write the pairs first.")
    for path in tqdm(paths, desc="labels", unit="tile"):
        label_path = path.parents[1] / "labels" / path.name
        if not label_path.exists():
            rgb, sar = read_pair(path)
            write_image(label_path, label_pair(rgb, sar[..., 0], clusters[group_of(path.stem)]))
