#!/usr/bin/env python
r"""What overlap, window size and bfloat16 do to the maps of scenes: agreement, mIoU, seams and cost.

python projects/laptop/scene_quality.py                        # the shipped model
python projects/laptop/scene_quality.py --config-file projects/laptop/configs/mm_ovseg.yaml \
    --opts MODEL.WEIGHTS output/experiment/seed_2/full/model_final.pth

It draws scenes with labels, clear and under clouds, and maps them as `mm-ovseg scene` does.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import process_time

import numpy as np
from detectron2.config import CfgNode

from laptop.drawn_world import SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES, write_synthetic_dataset
from laptop.experiment.typesetting import markdown
from mm_ovseg.cli.arguments import add_config_arguments
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.engine import load_config
from mm_ovseg.evaluation import count_pixels, segmentation_metrics
from mm_ovseg.inference import SceneOptions, ScenePredictor
from mm_ovseg.modeling.windows import window_starts
from mm_ovseg.raster import open_raster

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path("configs/quickstart/demo.yaml")
SCENE = Path("demo/assets/pair/val")
WEATHERS = {"clear": "rgb", "clouds": "rgb_clouds"}  # folder of each
OVERLAPS = (0.5, 0.33, 0.25, 0.1875, 0.125, 0.0625, 0.0)
WINDOW_SCALES = (0.5, 1.5, 2.0)  # of a training crop
DTYPES = ("float32", "bfloat16")
REFERENCE_OVERLAP = OVERLAPS[0]
NEAR_TIE = 1  # percentage points


@dataclass(frozen=True)
class Maps:
    """The maps of all scenes of a folder, with the same options.

    Attributes:
        classes: weather -> (S, H, W) uint8.
        margins: weather -> (S, H, W) uint8, the highest score minus the next, in percentage points; if asked for.
        windows: the number of them per scene.
        seconds: of processor time, in all.
    """

    classes: dict[str, np.ndarray]
    margins: dict[str, np.ndarray]
    windows: int
    seconds: float


def read_bands(files: Sequence[Path]) -> np.ndarray:
    """The bands of files of one size, (S, bands, H, W)."""
    bands = []
    for path in files:
        with open_raster(path) as file:
            bands.append(file.read())
    return np.stack(bands)


def map_scenes(predictor: ScenePredictor, folder: Path, output: Path, options: SceneOptions) -> Maps:
    """Map every scene of a folder, clear and under clouds.

    Args:
        folder: with ``rgb``, ``rgb_clouds``, ``sar`` and ``labels``, as drawn.
        output: a folder for the maps.
        options: with ``probabilities``, the margins are read, too.
    """
    classes, margins, windows = {}, {}, 0
    start = process_time()
    for weather, kind in WEATHERS.items():
        (output / weather).mkdir(parents=True, exist_ok=True)
        for rgb in sorted((folder / kind).iterdir()):
            report = predictor.segment(rgb, folder / "sar" / rgb.name, output / weather / rgb.name, options)
            windows = report["windows"]
    seconds = process_time() - start
    for weather in WEATHERS:
        files = [output / weather / file.name for file in sorted((folder / "labels").iterdir())]
        classes[weather] = read_bands(files)[:, 0]
        if options.probabilities:
            scores = read_bands([file.with_name(f"{file.stem}_probabilities.tif") for file in files])  # (S, T, H, W)
            second, first = np.sort(scores, axis=1)[:, -2:].swapaxes(0, 1)
            margins[weather] = first - second
    return Maps(classes, margins, windows, seconds)


def mean_iou(truth: np.ndarray, classes: np.ndarray) -> float:
    """The mIoU of maps in percent, over the pixels of all of them."""
    counts = count_pixels(truth, classes, len(SYNTHETIC_CLASSES), NODATA_CLASS, has_none=True)
    return segmentation_metrics(counts, SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES)["mIoU"]


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """The percentage of pixels with the same class."""
    return 100 * float((one == other).mean())


def seam_ratio(classes: np.ndarray, window: int, overlap: int) -> float:
    """How much more often the class changes across seams, the middle of each overlap, than between other neighbours.

    Args:
        classes: maps (S, N, N).
        window, overlap: in pixels.

    Returns:
        About 1 where no seam shows; nan if a window holds the whole scene.
    """
    starts = window_starts(classes.shape[1], window, overlap)
    seams = [(one + window + next_one) // 2 - 1 for one, next_one in pairwise(starts)]  # the pixel before each
    at_seams, elsewhere = [], []
    for maps in (classes, classes.swapaxes(1, 2)):
        changes = (maps[:, 1:] != maps[:, :-1]).mean(axis=(0, 2))  # (N - 1,)
        at_seams.append(changes[seams])
        elsewhere.append(np.delete(changes, seams))
    return float(np.mean(at_seams) / np.mean(elsewhere)) if seams else float("nan")


def overlap_table(truth: np.ndarray, maps: Mapping[tuple[int, float], Maps]) -> str:
    """The table of overlaps and windows; agreement and time are relative to the first row.

    Args:
        truth: labels (S, H, W).
        maps: (window, overlap) -> the maps made with it.
    """
    reference = next(iter(maps.values()))
    rows = []
    for (window, overlap), found in maps.items():
        pixels = round(overlap * window)
        ratios = [seam_ratio(classes, window, pixels) for classes in found.classes.values()]
        rows.append(
            [
                f"{window}, {overlap:g}",
                f"{found.windows}",
                f"{found.windows * window**2 / truth[0].size:.2f}",
                f"{found.seconds / reference.seconds:.2f}",
                *(f"{agreement(classes, reference.classes[name]):.2f}" for name, classes in found.classes.items()),
                *(f"{mean_iou(truth, classes):.2f}" for classes in found.classes.values()),
                f"{np.mean(ratios):.2f}",
            ]
        )
    names = [f"{what}, {weather}" for what in ("agreement", "mIoU") for weather in WEATHERS]
    return markdown(rows, ["window, overlap", "windows", "reads per pixel", "time", *names, "changes at seams"])


def dtype_table(truths: Mapping[str, np.ndarray], maps: Mapping[str, Mapping[str, Maps]]) -> str:
    """The table of precisions.

    Args:
        truths: scenes -> labels (S, H, W).
        maps: scenes -> dtype -> the maps made with it; those in float32 with margins.
    """
    rows = []
    for name, found in maps.items():
        exact, half = (found[dtype] for dtype in DTYPES)
        for weather in WEATHERS:
            differs, ties = exact.classes[weather] != half.classes[weather], exact.margins[weather] <= NEAR_TIE
            rows.append(
                [
                    f"{name}, {weather}",
                    f"{100 - 100 * differs.mean():.3f}",
                    *(f"{mean_iou(truths[name], of.classes[weather]):.2f}" for of in (exact, half)),
                    f"{100 * ties[differs].mean():.1f}" if differs.any() else "-",
                    f"{exact.margins[weather][differs].max(initial=0)}",
                    f"{100 * ties.mean():.2f}",
                ]
            )
    headers = ["scenes", "agreement", *(f"mIoU, {dtype}" for dtype in DTYPES)]
    headers += ["near-ties among those that differ", "largest margin among them", "near-ties among all"]
    return markdown(rows, headers)


def compare_overlaps(cfg: CfgNode, folder: Path, output: Path) -> str:
    """Map with each overlap and window size, and return the table."""
    window = cfg.INPUT.CROP.SIZE[0]
    cases = [(window, overlap) for overlap in OVERLAPS]
    cases += [(round(scale * window), SceneOptions().overlap) for scale in WINDOW_SCALES]
    predictor, maps = ScenePredictor(cfg, SYNTHETIC_CLASSES), {}
    for case in cases:
        options = SceneOptions(window=case[0], overlap=case[1])
        maps[case] = map_scenes(predictor, folder, output / f"window_{case[0]}_overlap_{case[1]:g}", options)
    return overlap_table(read_labels(folder), maps)


def compare_dtypes(cfg: CfgNode, folders: Mapping[str, Path], output: Path) -> str:
    """Map in each precision, and return the table."""
    maps: dict[str, dict[str, Maps]] = {name: {} for name in folders}
    for dtype in DTYPES:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.INFERENCE_DTYPE = dtype
        predictor = ScenePredictor(cfg, SYNTHETIC_CLASSES)
        for name, folder in folders.items():
            options = SceneOptions(probabilities=True)
            maps[name][dtype] = map_scenes(predictor, folder, output / f"{dtype}_{name.replace(' ', '_')}", options)
    return dtype_table({name: read_labels(folder) for name, folder in folders.items()}, maps)


def read_labels(folder: Path) -> np.ndarray:
    """The labels of the scenes of a folder, (S, H, W)."""
    return read_bands(sorted((folder / "labels").iterdir()))[:, 0]


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the scenes, map them, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser, required=False, default=ROOT / CONFIG, help="a config (default: the shipped model's)")
    parser.add_argument("--output", type=Path, default=Path("output/scene_quality"), help="folder for scenes and maps")
    parser.add_argument("--scenes", type=int, default=3, help="number of scenes (default: 3)")
    parser.add_argument("--size", type=int, default=576, help="side of a scene in pixels (default: 576)")
    args = parser.parse_args(arguments)
    cfg = load_config(args.config_file, args.opts, needs_datasets=False)
    drawn = args.output / f"{args.scenes}_scenes_of_{args.size}"
    write_synthetic_dataset(drawn, num_train=0, num_val=args.scenes, size=args.size, seed=7, file_format="tif")
    table = compare_overlaps(cfg, drawn / "val", args.output)
    print(f"Agreement and processor time are relative to the first row:\n\n{table}")
    folders = {"drawn": drawn / "val", "shipped pair": ROOT / SCENE}
    table = compare_dtypes(cfg, folders, args.output)
    print(f"\nIn percent; in a near-tie, two scores are within {NEAR_TIE} percentage point:\n\n{table}")


if __name__ == "__main__":
    main()
