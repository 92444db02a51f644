#!/usr/bin/env python
r"""Segment one RGB-SAR pair, or many, into maps and figures.

python demo/demo.py --config-file configs/mm_ovseg_vitb16_384.yaml --input rgb.tif --sar sar.tif \\
    --classes "water,road,city,forest" --unseen "water,road" --output maps --opts MODEL.WEIGHTS model.pth
python demo/demo.py --config-file ... --input images/rgb --sar images/sar --classes "water,road" --output maps
python demo/demo.py --config-file ... --input "images/rgb_*.png" --sar "images/sar_*.png" ...

For each pair the output folder gets NAME_map.png (class indices with a colour table), NAME_figure.png and, where the
input has a coordinate reference system, NAME_map.tif.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from mm_ovseg.command_line import clean_exit
from mm_ovseg.data import register_rgb_sar_dataset
from mm_ovseg.data.palette import default_colors
from mm_ovseg.data.raster import check_same_grid, read_label, read_raster_info
from mm_ovseg.engine import load_config
from mm_ovseg.errors import DataError
from mm_ovseg.inference.map_writer import write_class_map_geotiff, write_class_map_png
from mm_ovseg.inference.predictor import NO_DATA, Prediction, Predictor
from mm_ovseg.visualization.panels import PanelRow, draw_panels
from mm_ovseg.vocabulary import parse_class_names, select_unseen


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a config of configs/")
    parser.add_argument("--input", required=True, metavar="RGB", help="a file, a folder, or a glob in quotes")
    parser.add_argument("--sar", required=True, metavar="SAR", help="the same for SAR; pairs have the same stem")
    parser.add_argument("--label", metavar="LABEL", help="label maps to show beside, if any: indices into --classes")
    parser.add_argument(
        "--classes", required=True, help='"water,road,city"; with synonyms: "water,river,lake; road,street"'
    )
    parser.add_argument("--unseen", default="", help="those of --classes never labelled in training; underlined")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    return parser.parse_args(arguments)


def find_pairs(rgb: str, sar: str, label: str | None, classes: Sequence[str]) -> list[dict]:
    """The dataset dicts of one pair of files, or of two folders or globs matched by stem.

    Raises:
        DataError: a file is missing, or has no partner.
    """
    sources = {"file_name": rgb, "sar_file_name": sar, **({"sem_seg_file_name": label} if label else {})}
    if all(Path(path).is_file() for path in sources.values()):
        return [{**sources, "image_id": Path(rgb).stem}]
    for path in sources.values():
        if "*" not in Path(path).name and not Path(path).exists():
            raise DataError(f"{path} does not exist; give a file, a folder, or a glob in quotes.")
    if any(Path(path).is_file() for path in sources.values()):
        raise DataError(f"{', '.join(sources.values())} mix files and folders; give files only, or folders only.")
    name = "demo_input"
    register_rgb_sar_dataset(
        name,
        root=".",
        rgb=str(Path(rgb).absolute()),
        sar=str(Path(sar).absolute()),
        labels=str(Path(label).absolute()) if label else None,
        classes=list(classes),
    )
    return DatasetCatalog.get(name)


def write_results(
    folder: Path,
    pair: dict,
    prediction: Prediction,
    classes: Sequence[str],
    unseen: Sequence[str],
) -> None:
    """Write the maps and the figure of one pair."""
    colors = default_colors(classes)
    name = pair["image_id"]
    write_class_map_png(folder / f"{name}_map.png", prediction.class_map, colors)
    info = read_raster_info(pair["file_name"])
    if info.crs is not None:
        write_class_map_geotiff(
            folder / f"{name}_map.tif",
            prediction.class_map,
            crs=info.crs,
            transform=info.transform,
            class_names=classes,
            colors=colors,
        )
    label = None
    if "sem_seg_file_name" in pair:
        check_same_grid(info, read_raster_info(pair["sem_seg_file_name"]))
        label = read_label(pair["sem_seg_file_name"], num_classes=len(classes), ignore_label=NO_DATA)
    row = PanelRow(
        rgb=prediction.image,
        sar=prediction.sar_image,
        label=label,
        predictions={"Prediction": prediction.class_map},
    )
    draw_panels(folder / f"{name}_figure.png", [row], classes=classes, colors=colors, unseen=unseen)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Segment what the command line names."""
    args = parse_arguments(arguments)
    classes = parse_class_names(args.classes)
    unseen = select_unseen(classes, parse_class_names(args.unseen) if args.unseen else ())
    pairs = find_pairs(args.input, args.sar, args.label, classes)
    cfg = load_config(args.config_file, args.opts)
    setup_logger(name="mm_ovseg")
    predictor = Predictor(cfg, classes)
    folder = Path(args.output)
    written = 0
    for pair in tqdm(pairs, unit="pair", disable=len(pairs) == 1):
        prediction = predictor(pair)
        if prediction is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder, pair, prediction, classes, unseen)
        written += 1
    print(f"{written} of {len(pairs)} pairs segmented into {folder}.")
    if written < len(pairs):
        print(f"{len(pairs) - written} pairs could not be read and were skipped; see the warnings.", file=sys.stderr)


if __name__ == "__main__":
    main()
