#!/usr/bin/env python
"""Write the training data of the Sentinel model from the archives of ``realtrain``.

python projects/sentinel/prepare.py --source ../shared/realtrain --output datasets/sentinel

Finished files are kept, so that an interrupted run continues.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.files import check_writable_folder
from sentinel.mosaics import write_mosaics
from sentinel.pairs import write_pairs

PARTS = {"pairs": write_pairs, "mosaics": write_mosaics}


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Write all parts, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the zip archives")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to write (default: all)")
    args = parser.parse_args(arguments)
    check_writable_folder(args.output)
    for part in args.parts:
        PARTS[part](args.source, args.output / part)


if __name__ == "__main__":
    main()
