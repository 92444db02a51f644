#!/usr/bin/env python
r"""Segment the pair that comes with the source, with the small model that comes with it: clear, and under clouds.

python projects/laptop/shipped_pair.py --output output/demo
python projects/laptop/shipped_pair.py --output output/demo --classes "river, lake; wood; town"

Each map is made as `mm-ovseg scene` makes it, whose command lines are printed, and compared with the true land
cover for the classes whose first name it knows. Road and water were never labelled in the model's training.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from laptop.drawn_world import SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.engine import load_config
from mm_ovseg.evaluation import count_pixels, segmentation_metrics
from mm_ovseg.files import check_writable_folder
from mm_ovseg.inference import ScenePredictor
from mm_ovseg.inference.map_writer import NODATA_CLASS
from mm_ovseg.inference.typed_classes import read_vocabulary
from mm_ovseg.raster import open_raster, read_label, read_rgb, read_sar
from mm_ovseg.visualization.panels import PanelRow, draw_panels

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path("configs/quickstart/demo.yaml")
SCENE = Path("demo/assets/pair/val")
WEATHERS = {"clear": "rgb", "clouds": "rgb_clouds"}


def scene_file(kind: str) -> Path:
    """A file of the shipped pair, relative to the source."""
    return SCENE / kind / "00000.tif"


def read_truth(classes: Sequence[str]) -> np.ndarray:
    """The true land cover (H, W) as indices into ``classes``, 255 where it is none of them."""
    label = read_label(ROOT / scene_file("labels"), num_classes=len(SYNTHETIC_CLASSES), ignore_label=NODATA_CLASS)
    asked = [name.split(",")[0].strip().lower() for name in classes]
    table = np.full(256, NODATA_CLASS, np.uint8)
    for index, name in enumerate(SYNTHETIC_CLASSES):
        if name in asked:
            table[index] = asked.index(name)
    return table[label]


def describe(class_maps: dict[str, np.ndarray], truth: np.ndarray, classes: Sequence[str]) -> str:
    """A table of the IoU in percent of every class that the truth knows."""
    known = [index for index in range(len(classes)) if (truth == index).any()]
    if not known:
        return "None of these names is one of the true land cover's, so there is nothing to compare with."
    rows = []
    for run, class_map in class_maps.items():
        counts = count_pixels(truth, class_map, len(classes), NODATA_CLASS)
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
    parser.add_argument(
        "--classes", default=",".join(SYNTHETIC_CLASSES), help="names to look for, as of mm-ovseg scene"
    )
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
                f'{f"--sar {sar} " if sar else ""}--classes "{args.classes}" --output {output}',
                flush=True,
            )
            predictor.segment(ROOT / scene_file(kind), sar and ROOT / sar, output)
            with open_raster(output) as file:
                predictions[sensors] = class_maps[name] = file.read(1)
        rgb, _ = read_rgb(ROOT / scene_file(kind))
        rows.append(PanelRow(rgb=rgb, sar=sar_image, label=truth, predictions=predictions, name=weather))
    figure = args.output / "figure.png"
    draw_panels(figure, rows, classes=classes, colors=vocabulary.colors, unseen=unseen)
    print(f"\n{describe(class_maps, truth, classes)}\n")
    print(f"Maps for QGIS and the figure to look at are in {args.output}: {figure}")
    print(f"All of it took {time.perf_counter() - start:.0f} seconds.")


if __name__ == "__main__":
    main()
