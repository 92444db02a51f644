#!/usr/bin/env python
r"""Segment a shipped pair, clear and under clouds, with a shipped model.

python projects/sentinel/shipped_pair.py --output output/demo
python projects/sentinel/shipped_pair.py --output output/demo --classes "river, lake; wood; town"
python projects/sentinel/shipped_pair.py --output output/drawn --scene drawn

Each map is made like that of the printed `mm-ovseg scene` command, and compared with the true land cover, for classes
that are in it. The drawn scene is that of the laptop experiment, whose model had no labels of road and water.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS
from mm_ovseg.engine import load_config
from mm_ovseg.evaluation import count_pixels, segmentation_metrics
from mm_ovseg.files import check_writable_folder
from mm_ovseg.inference import ScenePredictor
from mm_ovseg.inference.typed_classes import read_vocabulary
from mm_ovseg.raster import RasterSource, open_raster
from mm_ovseg.visualization.panels import PanelRow, draw_panels
from sentinel.land_cover import TERRAMIND_CLASSES, find_common_name, truth_reader

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class ShippedScene:
    """A pair with its true land cover, and the model that maps it; paths are relative to the repository.

    Attributes:
        config: Of the model.
        rgb: Weather -> the RGB file.
        sar: The SAR file.
        label: The file of the true land cover.
        names: Its values -> names, asked for by default; other values are ignored.
        unseen: Those without labels in the model's training.
    """

    config: Path
    rgb: Mapping[str, Path]
    sar: Path
    label: Path
    names: Mapping[int, str]
    unseen: tuple[str, ...] = ()

    def read_truth(self, classes: Sequence[str]) -> np.ndarray:
        """The true land cover (H, W) as indices into ``classes``, 254 for none of them, 255 where it is ignored."""
        with RasterSource(ROOT / self.label) as source:
            return truth_reader(self.names, classes, others=NONE_CLASS).read(source)[0]


SENTINEL, DRAWN = Path("demo/assets/sentinel"), Path("demo/assets/pair/val")
SCENES = {
    "sentinel": ShippedScene(
        config=Path("configs/sentinel/demo.yaml"),
        rgb={"clear": SENTINEL / "rgb.tif", "clouds": SENTINEL / "rgb_clouds.tif"},
        sar=SENTINEL / "sar.tif",
        label=SENTINEL / "label.tif",
        names=TERRAMIND_CLASSES,
        unseen=("industrial area", "bare ground"),
    ),
    "drawn": ShippedScene(
        config=Path("configs/quickstart/demo.yaml"),
        rgb={"clear": DRAWN / "rgb/00000.tif", "clouds": DRAWN / "rgb_clouds/00000.tif"},
        sar=DRAWN / "sar/00000.tif",
        label=DRAWN / "labels/00000.tif",
        names=dict(enumerate(("city", "road", "forest", "water", "farmland"))),
        unseen=("road", "water"),
    ),
}


def describe(
    class_maps: Mapping[str, np.ndarray], truth: np.ndarray, classes: Sequence[str], unseen: Sequence[str] = ()
) -> str:
    """A table of pixel accuracy, and of the IoU of every class in the true land cover, in percent."""
    known = [index for index in range(len(classes)) if (truth == index).any()]
    if not known:
        return "None of these names is in the true land cover, so there is nothing to compare with."
    rows = []
    for run, class_map in class_maps.items():
        counts = count_pixels(truth, class_map, len(classes), NODATA_CLASS, has_none=True)
        metrics = segmentation_metrics(counts, classes)
        ious = (f"{metrics[f'IoU-{classes[index]}']:.1f}" for index in known)
        rows.append([run, f"{metrics['pACC']:.1f}", *ious])
    headers = [f"{classes[index]} (unseen)" if classes[index] in unseen else classes[index] for index in known]
    table = tabulate(rows, ["", "pixels right", *headers], tablefmt="github", disable_numparse=True)
    return f"The share of pixels that are right, and the IoU of each class, in percent:\n\n{table}"


def find_unseen(scene: ShippedScene, classes: Sequence[str]) -> list[str]:
    """The classes asked for that the model had no labels of."""
    return [name for name in classes if find_common_name(name, scene.unseen) is not None]


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Segment, compare and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for maps and the figure")
    parser.add_argument("--scene", choices=SCENES, default="sentinel", help="the pair (default: sentinel)")
    parser.add_argument("--classes", help="class names, as for mm-ovseg scene (default: those of the true land cover)")
    args = parser.parse_args(arguments)
    start = time.perf_counter()
    check_writable_folder(args.output)
    scene = SCENES[args.scene]
    typed = args.classes if args.classes is not None else "; ".join(scene.names.values())
    vocabulary = read_vocabulary(typed, None)
    classes = vocabulary.classes
    unseen = find_unseen(scene, classes)
    cfg = load_config(ROOT / scene.config, ["MODEL.DEVICE", "cpu"], needs_datasets=False)
    predictor = ScenePredictor(cfg, classes, colors=vocabulary.colors, unseen=unseen)
    truth = scene.read_truth(classes)
    rgb_reader, sar_reader = image_readers(cfg)
    sar_image, _ = sar_reader.read_file(ROOT / scene.sar)
    class_maps, rows = {}, []
    for weather, rgb in scene.rgb.items():
        predictions = {}
        for sensors, sar in (("RGB and SAR", scene.sar), ("RGB alone", None)):
            name = f"{weather}, {sensors}"
            output = args.output / f"{name.lower().replace(',', '').replace(' ', '_')}.tif"
            print(
                f"$ mm-ovseg scene --config-file {scene.config} --rgb {rgb} "
                f'{f"--sar {sar} " if sar else ""}--classes "{typed}" --output {output}',
                flush=True,
            )
            predictor.segment(ROOT / rgb, sar and ROOT / sar, output)
            with open_raster(output) as file:
                predictions[sensors] = class_maps[name] = file.read(1)
        image, _ = rgb_reader.read_file(ROOT / rgb)
        rows.append(PanelRow(rgb=image, sar=sar_image[..., 0], label=truth, predictions=predictions, name=weather))
    figure = args.output / "figure.png"
    draw_panels(figure, rows, classes=classes, colors=vocabulary.colors, unseen=unseen)
    print(f"\n{describe(class_maps, truth, classes, unseen)}\n")
    print(f"The maps for QGIS are in {args.output}, and the figure is {figure}.")
    print(f"Total time: {time.perf_counter() - start:.0f} seconds.")


if __name__ == "__main__":
    main()
