#!/usr/bin/env python
r"""Bring PIE-RGB-SAR (Pearl River Delta; Google RGB, Gaofen-3 SAR) to the layout of the datasets `pie_*`.

python datasets/prepare_pie_rgb_sar.py PIE_RGBSAR.zip                        # as processed for the paper
python datasets/prepare_pie_rgb_sar.py PIE-RGB-SAR.zip --dry-run             # as its authors publish it
python datasets/prepare_pie_rgb_sar.py PIE-RGB-SAR --rgb images/opt --sar images/sar --labels masks --val-list val.txt

Takes archives as downloaded, or the folders they were unpacked to. The processed release is known by its folders
`{train,val}/D2masks6`; anything else is taken for the authors' own.

The authors' archive was never seen: where its files lie and what its label maps hold are assumptions, which --rgb,
--rgb-clouds, --sar, --labels and --label-table replace. What does not fit ends in an error that lists the folders or
the label values there are. Interrupted, the same command goes on where it was.
"""

import argparse
from collections.abc import Sequence

from mm_ovseg.command_line import clean_exit
from mm_ovseg.data.preparation.labelled.layout import DatasetLayout
from mm_ovseg.data.preparation.labelled.options import Authors, add_labelled_arguments, run_labelled

PATTERNS = {
    "rgb": "{split}/rgb",
    "rgb_clouds": "{split}/rgb_clouds",
    "sar": "{split}/sar",
    "labels": "{split}/labels",
}  # in the authors' archive


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_labelled_arguments(parser, PATTERNS)
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the dataset."""
    args = parse_arguments(arguments)
    names = [f"pie_{setting}_{split}" for split in ("train", "val") for setting in ("clean", "cloud")]
    layout = DatasetLayout.of_registered("PIE-RGB-SAR", names)
    run_labelled(args, layouts=[layout], authors=Authors(layout, "pie"), patterns=PATTERNS)


if __name__ == "__main__":
    main()
