#!/usr/bin/env python
"""Write the training data of the Sentinel model from the archives of ``realtrain``.

python projects/sentinel/prepare.py --source ../shared/realtrain --output datasets/sentinel

Finished files are kept, so that an interrupted run continues.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.files import check_writable_folder, remove_leftovers, write_json
from sentinel.labels import write_labels
from sentinel.mosaics import write_mosaics
from sentinel.pairs import write_pairs

PARTS = {"pairs": "pairs", "mosaics": "mosaics", "labels": "pairs"}  # -> the folder that each is in


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the zip archives")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=tuple(PARTS),
        help="what to write; labels are those of the pairs (default: all)",
    )
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Write all parts, or those asked for."""
    args = parse_arguments(arguments)
    check_writable_folder(args.output)
    for part in args.parts:
        for folder in (args.output / PARTS[part]).glob("*/*/"):  # such as pairs/train/rgb
            remove_leftovers(folder)
    if "pairs" in args.parts:
        write_pairs(args.source, args.output / "pairs")
    if "mosaics" in args.parts:
        write_mosaics(args.source, args.output / "mosaics")
    if "labels" in args.parts:
        write_labels(args.output / "pairs")
    if set(args.parts) == set(PARTS):
        write_json(args.output / "complete.json", {"parts": sorted(PARTS)})  # for make_model.py


if __name__ == "__main__":
    main()
