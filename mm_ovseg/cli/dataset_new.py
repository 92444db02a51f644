"""Inspect a folder of RGB, SAR and label images, and write the files that declare it as a dataset.

mm-ovseg dataset new /data/flood
mm-ovseg dataset new /data/flood --name flood --classes "background,water,road" --output datasets

RGB, SAR and labels (PNG, JPEG, GeoTIFF) are expected in separate folders, or in one folder with distinctive names
(rgb_1.tif, sar_1.tif, label_1.png). A split into train and val folders is kept. The folder itself is not changed. If
the meaning of the label values is ambiguous, nothing is written, and the error names the option that resolves it.

Writes to --output: NAME.yaml (declares NAME_train and NAME_val), NAME_classes.json (class names, for you to edit),
NAME_train.txt and NAME_val.txt (lists of pairs), NAME_config.yaml (for training) and NAME_preview.png (to look at).
"""

import argparse
import re
import shlex
from pathlib import Path

from mm_ovseg.errors import ConfigError

SHOWN = 3  # files per finding; `mm-ovseg dataset check` shows more
PREVIEWED = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder, facts about its files, and the output."""
    parser.add_argument("root", type=Path, help="the folder of images")
    parser.add_argument("--name", help="name of the dataset (default: that of the folder)")
    parser.add_argument("--output", type=Path, default=Path("datasets"), help="folder to write to (default: datasets)")
    parser.add_argument("--classes", help='names in the order of the label values: "water,road" or "lake,river; road"')
    parser.add_argument(
        "--label-values",
        default="",
        metavar="TABLE",
        help='meaning of the label values: "0: land, 1: water, -1: ignore", or a file of such lines',
    )
    parser.add_argument("--rgb", default="", help="folder in ROOT, or a pattern with one * (default: found by name)")
    parser.add_argument("--sar", default="", help="the same for SAR")
    parser.add_argument("--labels", default="", help="the same for labels")
    parser.add_argument("--val-fraction", type=float, default=0.2, help="share of the pairs to hold out (default: 0.2)")
    parser.add_argument(
        "--model", type=Path, metavar="CONFIG", help="config of the model to train (default: quickstart)"
    )
    parser.add_argument("--overwrite", action="store_true", help="overwrite the files of an earlier run")


def run(args: argparse.Namespace) -> None:
    """Write the dataset."""
    from mm_ovseg.data.check.draft import draft_dataset
    from mm_ovseg.data.check.draft_files import draft_paths, write_draft
    from mm_ovseg.data.check.draft_summary import describe_draft
    from mm_ovseg.data.check.findings import report_lines
    from mm_ovseg.engine import load_config
    from mm_ovseg.shipped import shipped_path
    from mm_ovseg.visualization.dataset_sheet import draw_dataset_sheet
    from mm_ovseg.vocabulary import parse_class_names

    name = args.name or re.sub(r"\W+", "_", args.root.resolve().name).strip("_") or "my_data"
    paths = draft_paths(args.output, name)
    _check_arguments(args, name, paths)
    draft = draft_dataset(
        args.root,
        name,
        rgb=args.rgb,
        sar=args.sar,
        labels=args.labels,
        names=parse_class_names(args.classes) if args.classes else (),
        label_values=args.label_values,
        val_fraction=args.val_fraction,
    )
    print(describe_draft(draft))
    roots = [str(layout.root.resolve()) for layout in draft.layouts]
    print(*report_lines(draft.findings, max_shown=SHOWN, shorten=roots), sep="\n")
    stage = "cmu" if draft.scheme is None else "mm_ovseg"
    model = args.model or shipped_path(f"configs/quickstart/{stage}.yaml")
    write_draft(draft, name, paths, model)
    cfg = load_config(paths["config"], ["MODEL.DEVICE", "cpu"])
    draw_dataset_sheet(cfg, draft.train.name, paths["preview"], PREVIEWED)
    print("\nWritten: " + ", ".join(str(path) for path in paths.values() if path.exists()))
    if draft.scheme is not None:
        print(f"Edit {paths['classes']}: the class names, and the unseen classes, whose labels training ignores.")
    config = shlex.quote(str(paths["config"]))
    print(f"\nNext:\n  mm-ovseg dataset check --config-file {config}\n  mm-ovseg train --config-file {config}")


def _check_arguments(args: argparse.Namespace, name: str, paths: dict[str, Path]) -> None:
    from detectron2.data import DatasetCatalog

    from mm_ovseg.engine import config_inputs, load_config
    from mm_ovseg.files import check_outputs, check_writable_folder

    if re.search(r"[^\w.-]", name):
        raise ConfigError(f"--name is '{name}'; use letters, digits, _, - and . only.")
    if f"{name}_train" in DatasetCatalog:
        raise ConfigError(f"A dataset named '{name}_train' comes with mm_ovseg; choose another --name.")
    if not 0 < args.val_fraction < 1:
        raise ConfigError(f"--val-fraction is {args.val_fraction}; give a number between 0 and 1.")
    if args.output.resolve() == args.root.resolve():
        raise ConfigError(f"--output is the folder of the images, {args.root}; choose another one.")
    if not args.overwrite and (there := [path for path in paths.values() if path.exists()]):
        raise ConfigError(f"{there[0]} exists; give --overwrite to replace it, or another --name or --output.")
    if args.model is not None:
        cfg = load_config(args.model, ["MODEL.DEVICE", "cpu"], needs_datasets=False)
        check_outputs({"--output": paths.values()}, config_inputs(cfg, args.model))
    check_writable_folder(args.output)
