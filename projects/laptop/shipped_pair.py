#!/usr/bin/env python
r"""Segment the shipped pair, clear and under clouds, with the shipped small model.

python projects/laptop/shipped_pair.py --output output/demo
python projects/laptop/shipped_pair.py --output output/demo --classes "river, lake; wood; town"

Each map is made like that of the printed `mm-ovseg scene` command, and compared with the true land cover, for classes
whose first name is in it. Road and water had no labels in the training of the model.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from laptop.drawn_world import SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS
from mm_ovseg.engine import load_config
from mm_ovseg.evaluation import count_pixels, segmentation_metrics
from mm_ovseg.files import check_writable_folder
from mm_ovseg.inference import SceneOptions, ScenePredictor
from mm_ovseg.inference.typed_classes import read_vocabulary
from mm_ovseg.raster import open_raster, read_label, read_rgb, read_sar
from mm_ovseg.visualization.panels import PanelRow, draw_panels

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path("configs/quickstart/demo.yaml")
SCENE = Path("demo/assets/pair/val")
WEATHERS = {"clear": "rgb", "clouds": "rgb_clouds"}
OVERLAP = 0.33  # that of the pictures in the documentation; 16 windows, as with the default


def scene_file(kind: str) -> Path:
    """A file of the shipped pair, relative to the repository."""
    return SCENE / kind / "00000.tif"


def read_truth(classes: Sequence[str]) -> np.ndarray:
    """The true land cover (H, W) as indices into ``classes``, 254 for all others."""
    label = read_label(ROOT / scene_file("labels"), num_classes=len(SYNTHETIC_CLASSES), ignore_label=NODATA_CLASS)
    asked = [name.split(",")[0].strip().lower() for name in classes]
    table = np.full(256, NONE_CLASS, np.uint8)
    table[NODATA_CLASS] = NODATA_CLASS
    for index, name in enumerate(SYNTHETIC_CLASSES):
        if name in asked:
            table[index] = asked.index(name)
    return table[label]


def describe(class_maps: dict[str, np.ndarray], truth: np.ndarray, classes: Sequence[str]) -> str:
    """A table of the IoU in percent of every class in the true land cover."""
    known = [index for index in range(len(classes)) if (truth == index).any()]
    if not known:
        return "None of these names is in the true land cover, so there is nothing to compare with."
    rows = []
    for run, class_map in class_maps.items():
        counts = count_pixels(truth, class_map, len(classes), NODATA_CLASS, has_none=True)
        metrics = segmentation_metrics(counts, classes, ())
        rows.append([run, *(f"{metrics[f'IoU-{classes[index]}']:.1f}" for index in known)])
    headers = [
        f"{classes[index]} (unseen)" if classes[index] in SYNTHETIC_UNSEEN_CLASSES else classes[index]
        for index in known
    ]
    table = tabulate(rows, ["", *headers], tablefmt="github", disable_numparse=True)
    return f"IoU of each class, in percent:\n\n{table}"


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Segment, compare and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for maps and the figure")
    parser.add_argument("--classes", default=",".join(SYNTHETIC_CLASSES), help="class names, as for mm-ovseg scene")
    args = parser.parse_args(arguments)
    start = time.perf_counter()
    check_writable_folder(args.output)
    vocabulary = read_vocabulary(args.classes, None)
    classes = vocabulary.classes
    unseen = [name for name in classes if name in SYNTHETIC_UNSEEN_CLASSES]
    cfg = load_config(ROOT / CONFIG, ["MODEL.DEVICE", "cpu"], needs_datasets=False)
    predictor = ScenePredictor(cfg, classes, colors=vocabulary.colors, unseen=unseen)
    truth = read_truth(classes)
    sar_image, _ = read_sar(ROOT / scene_file("sar"))
    class_maps, rows = {}, []
    for weather, kind in WEATHERS.items():
        predictions = {}
        for sensors, sar in (("RGB and SAR", scene_file("sar")), ("RGB alone", None)):
            name = f"{weather}, {sensors}"
            output = args.output / f"{name.lower().replace(',', '').replace(' ', '_')}.tif"
            print(
                f"$ mm-ovseg scene --config-file {CONFIG} --rgb {scene_file(kind)} "
                f'{f"--sar {sar} " if sar else ""}--classes "{args.classes}" --overlap {OVERLAP} --output {output}',
                flush=True,
            )
            predictor.segment(ROOT / scene_file(kind), sar and ROOT / sar, output, SceneOptions(overlap=OVERLAP))
            with open_raster(output) as file:
                predictions[sensors] = class_maps[name] = file.read(1)
        rgb, _ = read_rgb(ROOT / scene_file(kind))
        rows.append(PanelRow(rgb=rgb, sar=sar_image, label=truth, predictions=predictions, name=weather))
    figure = args.output / "figure.png"
    draw_panels(figure, rows, classes=classes, colors=vocabulary.colors, unseen=unseen)
    print(f"\n{describe(class_maps, truth, classes)}\n")
    print(f"The maps for QGIS are in {args.output}, and the figure is {figure}.")
    print(f"Total time: {time.perf_counter() - start:.0f} seconds.")


if __name__ == "__main__":
    main()
