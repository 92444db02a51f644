#!/usr/bin/env python
r"""Bring DDHR (Gaofen-2 RGB, Gaofen-3 SAR; 1 m) to the layout of `ddhr_sk_*` (Pohang) and `ddhr_ch_val` (Xi'an).

python datasets/prepare_ddhr.py DDSK.zip DDCH.zip                            # as processed for the paper
python datasets/prepare_ddhr.py DDHR-SK.zip --region sk --dry-run            # as its authors publish it
python datasets/prepare_ddhr.py xian --region ch --rgb-clouds opt --sar sar --labels gt --label-table xian.json

Takes archives as downloaded, or the folders they were unpacked to. The processed release is known by its folders
`DDSK/{train/D2masks3class,val/D2masks}` and `DDCH/val/D2masks`; anything else is taken for the authors' own, of which
--region says what it shows. Xi'an serves evaluation only: of paths with a split the tiles for validation go there, of
paths without all of them.

The authors' archives were never seen: where their files lie and what their label maps hold are assumptions, which
--rgb, --rgb-clouds, --sar, --labels and --label-table replace. What does not fit ends in an error that lists the
folders or the label values there are. Interrupted, the same command goes on where it was.
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
}  # in the authors' archives
REGIONS = {"sk": ("ddhr_sk_train", "ddhr_sk_val"), "ch": ("ddhr_ch_val",)}  # the datasets of each


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_labelled_arguments(parser, PATTERNS)
    parser.add_argument("--region", choices=tuple(REGIONS), help="what the authors' release shows: Pohang, or Xi'an")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the datasets."""
    args = parse_arguments(arguments)
    layouts = {
        region: DatasetLayout.of_registered(f"DDHR-{region.upper()}", names) for region, names in REGIONS.items()
    }
    authors = Authors(layouts[args.region], f"ddhr_{args.region}") if args.region else None
    run_labelled(args, layouts=list(layouts.values()), authors=authors, patterns=PATTERNS)


if __name__ == "__main__":
    main()
