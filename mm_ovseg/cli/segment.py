r"""Segment one RGB-SAR pair or folders of pairs, or RGB or SAR images alone, into maps and figures.

mm-ovseg segment --config-file configs/mm_ovseg_vitb16_384.yaml --input rgb.tif --sar sar.tif \
    --classes "water,road,city,forest" --unseen "water,road" --output maps --opts MODEL.WEIGHTS model.pth
mm-ovseg segment --config-file ... --input images/rgb --sar images/sar --classes "water,road" --output maps
mm-ovseg segment --config-file ... --input "images/rgb_*.png" --sar "images/sar_*.png" ...

For each pair, the output folder gets NAME_map.png (class indices with a colour table), NAME_figure.png and, if the
input is georeferenced, NAME_map.tif. With several pairs, overview.png shows the first ones together. With --label, the
IoU of every class is printed. One name alone gives a map of where it is and where it is not ("none", 254); so do
--background and --min-score with several.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mm_ovseg.cli.arguments import add_class_arguments, add_config_arguments, add_decision_arguments
from mm_ovseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from mm_ovseg.inference.predictor import Prediction
    from mm_ovseg.inference.typed_classes import Vocabulary
    from mm_ovseg.visualization.panels import PanelRow

PAIRS_IN_OVERVIEW = 8
OVERVIEW = "overview.png"
ENDINGS = MAP, GEOTIFF, FIGURE = "_map.png", "_map.tif", "_figure.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the pairs, the classes, and the output."""
    add_config_arguments(parser)
    parser.add_argument(
        "--input",
        metavar="RGB",
        help="a file, a folder, or a glob in quotes (default: none, and the maps rest on SAR alone)",
    )
    parser.add_argument(
        "--sar", metavar="SAR", help="the same for SAR, matched by stem (default: none, and the maps rest on RGB alone)"
    )
    parser.add_argument(
        "--label",
        metavar="LABEL",
        help="label maps to compare with: indices into --classes, 254 for none of them, 255 where unknown",
    )
    parser.add_argument(
        "--label-classes",
        metavar="NAMES",
        help="names of the values 0, 1, ... of the label maps, if they have other classes than --classes",
    )
    add_class_arguments(parser)
    add_decision_arguments(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")


def run(args: argparse.Namespace) -> None:
    """Segment the pairs."""
    import numpy as np
    from detectron2.utils.logger import setup_logger
    from tqdm import tqdm

    from mm_ovseg.data.input_files import sample_inputs
    from mm_ovseg.decision import NODATA_CLASS
    from mm_ovseg.engine import config_inputs, load_config
    from mm_ovseg.evaluation import count_pixels, segmentation_metrics
    from mm_ovseg.files import check_outputs, check_writable_folder
    from mm_ovseg.inference import Predictor
    from mm_ovseg.inference.pairs import find_pairs, read_label_values, read_pair_label
    from mm_ovseg.inference.typed_classes import read_decision_options, read_vocabulary, vocabulary_inputs
    from mm_ovseg.visualization.panels import draw_panels
    from mm_ovseg.vocabulary import parse_class_names

    vocabulary = read_vocabulary(args.classes, args.unseen)
    classes = vocabulary.classes
    decision = read_decision_options(classes, args.background, args.min_score)
    if args.label_classes and args.label is None:
        raise ConfigError("--label-classes names the values of --label; give that too, or leave it out.")
    label_values = read_label_values(classes, args.label_classes and parse_class_names(args.label_classes))
    folder = Path(args.output)
    check_writable_folder(folder)
    pairs = find_pairs(args.input, args.sar, args.label, classes)
    cfg = load_config(args.config_file, args.opts, needs_datasets=False)
    outputs = [folder / f"{pair['image_id']}{ending}" for pair in pairs for ending in ENDINGS]
    outputs += [folder / OVERVIEW] if len(pairs) > 1 else []
    inputs = {**sample_inputs(pairs), **config_inputs(cfg, args.config_file), **vocabulary_inputs(args.classes)}
    check_outputs({"--output": outputs}, inputs)
    setup_logger(name="mm_ovseg")
    predictor = Predictor(cfg, classes, **decision)
    if args.input is None and not predictor.model.needs_sar:
        raise DataError(f"{args.config_file} is a model of RGB alone, which SAR says nothing to; give --input.")
    if args.sar is None and predictor.model.needs_sar:
        print("This model was made for RGB and SAR; without --sar it maps RGB alone.", file=sys.stderr)
    elif args.input is None and not cfg.INPUT.DROP_RGB:
        print(
            "This model was not trained for SAR alone; do not rely on its maps, or train it with INPUT.DROP_RGB.",
            file=sys.stderr,
        )
    elif args.sar is not None and not predictor.model.needs_sar:
        print("This model maps RGB alone; --sar is only shown in the figures.", file=sys.stderr)
    rows, scores, written = [], {}, 0
    for pair in tqdm(pairs, unit="pair", disable=len(pairs) == 1):
        prediction = predictor(pair.get("file_name"), pair.get("sar_file_name"))
        if prediction is None:
            continue
        label = read_pair_label(pair, label_values)  # before writing anything for this pair
        row = _write_results(folder, pair, prediction, label, vocabulary, predictor.decision.has_none)
        rows = [*rows, row][:PAIRS_IN_OVERVIEW]
        if label is not None:
            label = np.where(prediction.class_map == NODATA_CLASS, NODATA_CLASS, label)
            counts = count_pixels(label, prediction.class_map, len(classes), NODATA_CLASS, has_none=True)
            scores[pair["image_id"]] = segmentation_metrics(counts, classes, vocabulary.unseen)
        written += 1
    if not written:
        raise DataError(f"None of the {len(pairs)} pairs could be read; see the warnings.")
    if written > 1:
        style = {"colors": vocabulary.colors, "unseen": vocabulary.unseen}
        draw_panels(folder / OVERVIEW, rows, classes=classes, **style)
    if scores:
        print(f"IoU of each class, in percent:\n\n{_format_scores(scores, classes, vocabulary.unseen)}\n")
    print(f"{written} of {len(pairs)} pairs segmented into {folder}.")
    if written < len(pairs):
        print(f"{len(pairs) - written} pairs could not be read and were skipped; see the warnings.", file=sys.stderr)


def _write_results(
    folder: Path,
    pair: Mapping[str, str],
    prediction: "Prediction",
    label: "np.ndarray | None",
    vocabulary: "Vocabulary",
    has_none: bool,
) -> "PanelRow":
    """Write the maps and the figure of one pair; returns the figure's row."""
    from mm_ovseg.inference import write_class_map_geotiff, write_class_map_png
    from mm_ovseg.inference.pairs import image_file
    from mm_ovseg.raster import read_raster_info
    from mm_ovseg.visualization.panels import PanelRow, draw_panels

    classes, unseen, colors = vocabulary
    name = pair["image_id"]
    write_class_map_png(folder / f"{name}{MAP}", prediction.class_map, colors)
    info = read_raster_info(image_file(pair), any_format=True)
    if info.grid.crs is not None:
        write_class_map_geotiff(
            folder / f"{name}{GEOTIFF}",
            prediction.class_map,
            crs=info.grid.crs,
            transform=info.grid.transform,
            class_names=classes,
            colors=colors,
            has_none=has_none,
        )
    row = PanelRow(
        rgb=prediction.image if "file_name" in pair else None,
        sar=prediction.sar_image,
        label=label,
        predictions={"Prediction": prediction.class_map},
        name=name,
    )
    draw_panels(folder / f"{name}{FIGURE}", [replace(row, name="")], classes=classes, colors=colors, unseen=unseen)
    return row


def _format_scores(scores: Mapping[str, Mapping[str, float]], classes: Sequence[str], unseen: Sequence[str]) -> str:
    """A table of the scores of each pair, in percent; classes without ground truth have a dash."""
    from tabulate import tabulate

    keys = ["mIoU", "mIoU-seen", "mIoU-unseen", *(f"IoU-{name}" for name in classes)]
    headers = ["", "mIoU", "seen", "unseen", *(f"{name} (unseen)" if name in unseen else name for name in classes)]
    rows = [
        [pair, *("-" if math.isnan(metrics[key]) else f"{metrics[key]:.1f}" for key in keys)]
        for pair, metrics in scores.items()
    ]
    alignment = ("left", *["right"] * len(keys))
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=alignment)
