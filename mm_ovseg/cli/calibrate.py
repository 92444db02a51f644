r"""Fit what makes a model's scores probabilities, on labelled pairs that it was not trained with.

mm-ovseg calibrate --config-file configs/mm_ovseg_vitb16_384.yaml --dataset mine_calibration \
    --dataset-file mine.yaml --opts MODEL.WEIGHTS output/mine/model_final.pth
mm-ovseg calibrate --config-file projects/laptop/configs/mm_ovseg.yaml --dataset laptop_calibration \
    laptop_clear_calibration --max-pairs 20 --output mixed.json --opts MODEL.WEIGHTS model.pth

Writes model_final.calibration.json beside model_final.pth, where every command finds it from then on (MODEL.CALIBRATION
none: raw scores). It holds the scale and bias of the logit; of each seen class, the score from which on a pixel is
mapped at all; and by how much names that training never saw must exceed the seen classes where many are asked for. Only
labels of seen classes are used.

Choose pairs like those to be mapped: confidences are right where clear and cloudy pairs are mixed as in them.
Evaluate on other pairs than these.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_ovseg.cli.arguments import add_config_arguments, add_dataset_file_argument
from mm_ovseg.errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from mm_ovseg.decision import Calibration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the pairs, and the file."""
    parser.add_argument(
        "--dataset", required=True, nargs="+", metavar="NAME", help="one or more registered datasets with labels"
    )
    add_dataset_file_argument(parser)
    parser.add_argument(
        "--max-pairs", type=int, metavar="N", help="use this many pairs of each, evenly spaced (default: all)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="JSON", help="the file to write (default: beside the weights, for all commands)"
    )
    parser.add_argument("--overwrite", action="store_true", help="overwrite an earlier calibration")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Fit, write and report."""
    from mm_ovseg.checkpoint.calibration_file import write_calibration
    from mm_ovseg.engine.calibrate import fit_calibration

    if args.max_pairs is not None and args.max_pairs < 1:
        raise ConfigError(f"--max-pairs is {args.max_pairs}; give 1 or more.")
    cfg = _load_config(args)
    output = _check_output(args, cfg)
    calibration, details = fit_calibration(cfg, max_pairs=args.max_pairs, show_progress=True)
    write_calibration(output, calibration, cfg.MODEL.WEIGHTS, details)
    print(_describe(calibration, details))
    print(output)


def _load_config(args: argparse.Namespace) -> "CfgNode":
    from mm_ovseg.data import register_datasets_from_file
    from mm_ovseg.data.registration import check_dataset
    from mm_ovseg.engine import load_config

    for path in args.dataset_file:
        register_datasets_from_file(path)
    cfg = load_config(args.config_file, [*args.opts, "INPUT.SKIP_CORRUPT", "False"])
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("A calibration belongs to trained weights; add --opts MODEL.WEIGHTS model.pth.")
    for name in args.dataset:
        check_dataset(name, "--dataset", any_form=True)
        if name in cfg.DATASETS.TRAIN:
            raise ConfigError(
                f"--dataset names {name}, which is in DATASETS.TRAIN; a model is too sure of pairs that it was trained "
                "with: give others."
            )
    cfg.defrost()
    cfg.DATASETS.TEST = tuple(dict.fromkeys(args.dataset))
    cfg.freeze()
    return cfg


def _check_output(args: argparse.Namespace, cfg: "CfgNode") -> Path:
    """The file to write, which can be written."""
    from mm_ovseg.checkpoint.calibration_file import calibration_beside
    from mm_ovseg.checkpoint.weights_file import SHIPPED_WEIGHTS
    from mm_ovseg.engine import config_inputs
    from mm_ovseg.files import check_outputs, check_writable_folder

    output = args.output
    if output is None:
        output = None if cfg.MODEL.WEIGHTS in SHIPPED_WEIGHTS else calibration_beside(cfg.MODEL.WEIGHTS)
        if output is None:
            raise ConfigError(f"{cfg.MODEL.WEIGHTS} is not in a folder of yours; say with --output where to write.")
    check_writable_folder(output.parent)
    inputs = config_inputs(cfg, args.config_file) | {
        "one of the dataset files": [*args.dataset_file, *cfg.DATASETS.FILES]
    }
    check_outputs(
        {"--output": [output]}, {what: paths for what, paths in inputs.items() if what != "their calibration"}
    )
    if output.exists() and not args.overwrite:
        raise ConfigError(f"{output} exists; give --overwrite to replace it, or another --output.")
    return output


def _describe(calibration: "Calibration", details: dict[str, Any]) -> str:
    from tabulate import tabulate

    from mm_ovseg.decision import CALIBRATED_NAMES

    fitted, ece = details["fitted_on"], details["ece"]
    datasets = ", ".join(fitted["datasets"])
    f1 = {name: f"{value:.1f}" for name, value in details["f1"].items()}
    minimums = calibration.min_scores.items()
    rows = [[name, f"{minimum:.3f}", f1.get(name, "no labels")] for name, minimum in minimums]
    headers = ["class", "minimum score", "F1 asked for alone, %"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=("left", "right", "right"))
    return (
        f"{fitted['pairs']} pairs of {datasets}, {fitted['pixels']} pixels with a label of a seen class.\n"
        f"Scale {calibration.scale:.3f} and bias {calibration.bias:.3f} of the logit; calibration error (ECE) on these "
        f"pixels: {ece['before']:.1f} % before, {ece['after']:.1f} % after.\n{table}\n"
        f"Of {CALIBRATED_NAMES} names never seen, one must exceed these classes by {calibration.margin:.2f} in logits."
    )
