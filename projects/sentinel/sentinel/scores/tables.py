"""Tables of the scores: mean and standard deviation over seeds, in percent."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import tabulate

from mm_ovseg.evaluation import segmentation_metrics
from sentinel.land_cover import CLASSES
from sentinel.scores.measure import BOTH, CONDITIONS, Condition, Counts

__all__ = ["accuracy", "class_table", "labelled_share", "tile_table"]

KEYS = ("pACC", "mIoU", *(f"IoU-{name}" for name in CLASSES))
HEADERS = ("pixels right", "mIoU", *(name.split(",")[0] for name in CLASSES))
TITLES = {condition: f"{condition[0]}, {condition[1]}".removesuffix(", any") for condition in CONDITIONS}


def class_table(model: Sequence[Counts], baselines: Mapping[str, Counts], constant: str) -> str:
    """Pixel accuracy, mIoU and the IoU of each class over all tiles, of the model and the baselines.

    Args:
        model: The counts of each seed.
        baselines: Title -> counts; of "constant" the conditions are all the same.
        constant: The class of the best constant map.
    """
    rows = [[f"**the model: {TITLES[condition]}**", *_score_cells(model, condition)] for condition in CONDITIONS]
    for title, counts in baselines.items():
        if title == "constant":
            rows.append([f"“{constant}” everywhere", *_score_cells([counts], CONDITIONS[0])])
        else:
            rows += [[f"{title}: {TITLES[condition]}", *_score_cells([counts], condition)] for condition in CONDITIONS]
    return _markdown(rows, ["", *HEADERS])


def tile_table(model: Sequence[Counts], baselines: Mapping[str, Counts]) -> str:
    """For each tile and weather, the scores of the model from both images, and the pixels that other maps get right.

    Args:
        model: The counts of each seed.
        baselines: As in :func:`class_table`; the constant here is the best one of each tile.
    """
    rules = {title: counts for title, counts in baselines.items() if title != "constant"}
    rows = []
    for tile in model[0]:
        pixels = model[0][tile][CONDITIONS[0]].sum(axis=1)
        for condition in ((BOTH, "clear"), (BOTH, "clouds")):
            others = [f"{accuracy(counts, [tile], condition):.1f}" for counts in rules.values()]
            cells = [*_score_cells(model, condition, [tile]), f"{100 * pixels.max() / pixels.sum():.1f}", *others]
            rows.append([f"{tile}, {condition[1]}", *cells])
    titles = (f"pixels right: {title}" for title in ("the tile's best constant", *rules))
    headers = ["RGB and SAR", *HEADERS, *titles]
    return _markdown(rows, headers)


def accuracy(counts: Counts, tiles: Sequence[str], condition: Condition) -> float:
    """The percentage of the labelled pixels of tiles that a map gets right."""
    return _scores(counts, condition, tiles)["pACC"]


def labelled_share(counts: Counts, pixels: int) -> float:
    """The percentage of all pixels of all tiles that have one of the classes."""
    return 100 * sum(int(found[CONDITIONS[0]].sum()) for found in counts.values()) / pixels


def _scores(counts: Counts, condition: Condition, tiles: Sequence[str] | None = None) -> dict[str, float]:
    chosen = counts if tiles is None else tiles
    return segmentation_metrics(np.sum([counts[tile][condition] for tile in chosen], axis=0), CLASSES)


def _score_cells(seeds: Sequence[Counts], condition: Condition, tiles: Sequence[str] | None = None) -> list[str]:
    scores = [_scores(counts, condition, tiles) for counts in seeds]
    return [_cell([of_seed[key] for of_seed in scores]) for key in KEYS]


def _cell(values: Sequence[float]) -> str:
    """Mean and standard deviation; a dash for a class that is nowhere in the truth."""
    if any(map(math.isnan, values)):
        return "–"
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.1f}"


def _markdown(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, tablefmt="github", colalign=alignment, disable_numparse=True)
