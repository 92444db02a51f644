"""Baselines that look at each pixel alone: thresholds written by hand, and the nearest mean of the labelled classes.

Both see RGB as reflectance of red, green and blue, and SAR as the mean of its channels, 0 (dark) to 1 (bright). Neither
has seen a test tile.
"""

from collections.abc import Callable, Iterable

import numpy as np

from mm_ovseg.raster.rgb import REFLECTANCE_RANGE
from sentinel.land_cover import CLASSES

__all__ = ["Rule", "apply_thresholds", "fit_nearest_mean"]

# From RGB, uint8 (H, W, 3), or None, and SAR, float32 (H, W, 3), 0..255, or None, to indices into CLASSES (H, W).
Rule = Callable[[np.ndarray | None, np.ndarray | None], np.ndarray]
WATER, TREES, CROPS, BUILDINGS, BARE, GRASS = range(len(CLASSES))

# Upper ends of the brightness of SAR, and the class up to there. Water is dark, woods and above all walls are bright.
SAR_STEPS = ((0.25, WATER), (0.42, BARE), (0.5, GRASS), (0.6, CROPS), (0.77, TREES), (np.inf, BUILDINGS))


def apply_thresholds(rgb: np.ndarray | None, sar: np.ndarray | None) -> np.ndarray:
    """Classify by thresholds; a :data:`Rule`.

    With both images, SAR decides on water and, where RGB does not see plants, on buildings; RGB decides on the rest.
    """
    if rgb is None:
        return _by_sar(_brightness(sar))
    by_rgb = _by_rgb(_reflectance(rgb))
    if sar is None:
        return by_rgb
    by_sar = _by_sar(_brightness(sar))
    plants = np.isin(by_rgb, (TREES, CROPS))
    return np.where((by_sar == WATER) | ((by_sar == BUILDINGS) & ~plants), by_sar, by_rgb)


def fit_nearest_mean(samples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Rule:
    """The rule that gives a pixel the class whose mean is nearest, in units of the features' standard deviation.

    Args:
        samples: Labelled pairs: RGB, SAR and indices into the classes, 255 where ignored. A class without labels is
            never given.
    """
    features, labels = [], []
    for rgb, sar, label in samples:
        known = label < len(CLASSES)
        features.append(np.dstack([_reflectance(rgb), _brightness(sar)])[known])
        labels.append(label[known])
    values, classes = np.concatenate(features), np.concatenate(labels)
    deviation = np.maximum(values.std(axis=0), 1e-6)
    present = np.unique(classes)
    means = np.stack([values[classes == index].mean(axis=0) for index in present])

    def apply(rgb: np.ndarray | None, sar: np.ndarray | None) -> np.ndarray:
        channels = np.r_[0 : 3 if rgb is not None else 0, 3 : 4 if sar is not None else 3]
        parts = ([] if rgb is None else [_reflectance(rgb)]) + ([] if sar is None else [_brightness(sar)])
        steps = (np.dstack(parts)[:, :, None] - means[:, channels]) / deviation[channels]
        return present[np.square(steps).sum(axis=3).argmin(axis=2)]

    return apply


def _reflectance(rgb: np.ndarray) -> np.ndarray:
    """Reflectance (H, W, 3) of an image in 0..255."""
    low, high = REFLECTANCE_RANGE
    return low + np.float32(rgb) * np.float32((high - low) / 255)


def _brightness(sar: np.ndarray) -> np.ndarray:
    """The mean of the channels (H, W, 3), 0..255, as 0..1 (H, W)."""
    return sar.mean(axis=2) / 255


def _by_rgb(reflectance: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(reflectance, 2, 0)
    mean, greenness = reflectance.mean(axis=2), green - (red + blue) / 2
    classes = np.full(mean.shape, GRASS)
    classes[mean > 0.17] = BARE
    classes[(mean > 0.1) & (np.abs(red - blue) < 0.03)] = BUILDINGS  # grey
    classes[greenness > 0.02] = CROPS
    classes[mean < 0.05] = TREES
    classes[(mean < 0.12) & (blue > red + 0.01) & (greenness < 0.02)] = WATER
    return classes


def _by_sar(brightness: np.ndarray) -> np.ndarray:
    ends, classes = zip(*SAR_STEPS, strict=True)
    return np.array(classes)[np.searchsorted(ends, brightness)]
