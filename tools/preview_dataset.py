#!/usr/bin/env python
"""Draw samples of a registered dataset (RGB, SAR, label) as one picture, to look at before training.

python tools/preview_dataset.py synthetic_train
python tools/preview_dataset.py my_dataset --dataset-file my_datasets.yaml --num 6 --output my_dataset.png
python tools/preview_dataset.py my_dataset --dataset-file my_datasets.yaml --opts INPUT.SAR.SCALE db

Files are read as in training and evaluation: with the settings under INPUT of the config, so that what looks wrong
here is wrong there too.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mm_ovseg.command_line import clean_exit
from mm_ovseg.data import register_datasets_from_file
from mm_ovseg.engine import config_inputs, load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import check_outputs
from mm_ovseg.visualization.dataset_sheet import check_is_rgb_sar_dataset, draw_dataset_sheet

ROOT = Path(__file__).resolve().parent.parent


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a registered dataset")
    parser.add_argument("--dataset-file", action="append", default=[], metavar="YAML", help="declares datasets")
    parser.add_argument("--config-file", type=Path, default=ROOT / "configs" / "base.yaml", help="how files are read")
    parser.add_argument("--num", type=int, default=4, help="samples, taken evenly over the dataset (default: 4)")
    parser.add_argument("--output", type=Path, help="PNG, PDF or SVG to write (default: NAME_preview.png)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture."""
    args = parse_arguments(arguments)
    cfg = load_config(args.config_file, [*args.opts, "MODEL.DEVICE", "cpu"])
    for path in args.dataset_file:
        register_datasets_from_file(path)
    if args.num < 1:
        raise ConfigError(f"--num is {args.num}; give 1 or more.")
    check_is_rgb_sar_dataset(args.name)
    output = args.output or Path(f"{args.name}_preview.png")
    inputs = {"the dataset file": args.dataset_file, **config_inputs(cfg, args.config_file)}
    check_outputs({"--output": [output]}, inputs)
    drawn, total = draw_dataset_sheet(cfg, args.name, output, args.num)
    print(f"{output}: {drawn} of the {total} samples of {args.name}")


if __name__ == "__main__":
    main()
