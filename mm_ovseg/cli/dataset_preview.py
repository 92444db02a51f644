"""Draw samples of a registered dataset (RGB, SAR, label) as one picture, to inspect before training.

mm-ovseg dataset preview ddhr_sk_train
mm-ovseg dataset preview my_dataset --dataset-file my_datasets.yaml --num 6 --output my_dataset.png
mm-ovseg dataset preview my_dataset --dataset-file my_datasets.yaml --opts INPUT.SAR.SCALE db

Files are read as in training and evaluation, with the config's settings under INPUT, so that what looks wrong here is
wrong there too.
"""

import argparse
from pathlib import Path

from mm_ovseg.cli.arguments import add_config_arguments, add_dataset_file_argument, check_pictures, check_positive
from mm_ovseg.shipped import shipped_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the dataset, the config, and the picture."""
    parser.add_argument("name", help="a registered dataset")
    add_dataset_file_argument(parser)
    add_config_arguments(
        parser,
        required=False,
        default=shipped_path("configs/base.yaml"),
        help="config with the INPUT settings (default: configs/base.yaml)",
    )
    parser.add_argument("--num", type=int, default=4, help="number of samples, evenly spaced (default: 4)")
    parser.add_argument("--output", type=Path, help="PNG, PDF or SVG file to write (default: NAME_preview.png)")


def run(args: argparse.Namespace) -> None:
    """Draw the picture."""
    from mm_ovseg.data.registration import check_dataset, register_datasets_from_file
    from mm_ovseg.engine import config_inputs, load_config
    from mm_ovseg.files import check_outputs
    from mm_ovseg.visualization.dataset_sheet import draw_dataset_sheet

    for path in args.dataset_file:
        register_datasets_from_file(path)
    cfg = load_config(args.config_file, [*args.opts, "MODEL.DEVICE", "cpu"])
    check_positive(args, "num")
    check_dataset(args.name, "The command line")
    output = args.output or Path(f"{args.name}_preview.png")
    check_pictures(output)
    inputs = {"the dataset file": args.dataset_file, **config_inputs(cfg, args.config_file)}
    check_outputs({"--output": [output]}, inputs)
    drawn, total = draw_dataset_sheet(cfg, args.name, output, args.num)
    print(f"{output}: {drawn} of the {total} samples of {args.name}")
