#!/usr/bin/env python
r"""Bring OpenEarthMap-SAR (35 regions of Japan, France and the USA) to the layout of the datasets `oem_*`.

python datasets/prepare_openearthmap_sar.py OEM.zip                          # as processed for the paper
python datasets/prepare_openearthmap_sar.py OpenEarthMap-SAR.zip --dry-run   # as its authors publish it
python datasets/prepare_openearthmap_sar.py dfc25_track1_trainval.zip --rgb train/rgb_images --sar train/sar_images \
    --labels train/labels --val-fraction 0.2

Takes archives as downloaded, or the folders they were unpacked to. The processed release is known by its folders
`train/D2masks5class` and `val/D2masks`; anything else is taken for the authors' own. That has clear RGB only, which
goes to `OEM/{train,val}/rgb`: tools/add_clouds.py can make `rgb_cloud` and `rgb_cloud_thin` of it (datasets/README.md).

The authors' archive was never seen: where its files lie is from memory, and --rgb, --sar, --labels and --label-table
replace it. What does not fit ends in an error that lists the folders or the label values there are. Interrupted, the
same command goes on where it was.
"""

import argparse
from collections.abc import Sequence

from mm_ovseg.command_line import clean_exit
from mm_ovseg.data.preparation.labelled.layout import DatasetLayout
from mm_ovseg.data.preparation.labelled.options import Authors, add_labelled_arguments, run_labelled

PATTERNS = {
    "rgb": "{split}/rgb_images",
    "rgb_cloud": "{split}/rgb_cloud",
    "rgb_cloud_thin": "{split}/rgb_cloud_thin",
    "sar": "{split}/sar_images",
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
    names = [f"oem_{setting}_{split}" for split in ("train", "val") for setting in ("thick", "thin")]
    layout = DatasetLayout.of_registered("OpenEarthMap-SAR", names)
    run_labelled(args, layouts=[layout], authors=Authors(layout, "openearthmap"), patterns=PATTERNS)


if __name__ == "__main__":
    main()
