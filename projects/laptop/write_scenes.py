#!/usr/bin/env python
"""Write a dataset of synthetic scenes.

python projects/laptop/write_scenes.py datasets/synthetic --num-train 60 --num-val 12
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from laptop.drawn_world.dataset import DEFAULT_FOLDER, FILE_FORMATS, OWN_CLOUDS, write_synthetic_dataset
from laptop.drawn_world.domain import DOMAINS
from mm_ovseg.cli.clean_exit import clean_exit


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw and write the dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_root = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / DEFAULT_FOLDER
    parser.add_argument("root", type=Path, nargs="?", default=default_root, help=f"folder (default: {default_root})")
    parser.add_argument("--num-train", type=int, default=60, help="training scenes (default: 60)")
    parser.add_argument("--num-val", type=int, default=12, help="validation scenes (default: 12)")
    parser.add_argument("--size", type=int, default=192, help="side of a scene in pixels of 2 m (default: 192)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same scenes (default: 0)")
    for name, default, what in (
        ("--cloud-thickness", (0.75, 1.0), "opacity of cloud cores, 0 to 1"),
        ("--cloud-cover", (0.3, 0.6), "share of the ground under clouds, 0 to 1"),
    ):
        parser.add_argument(name, type=float, nargs=2, metavar=("LOW", "HIGH"), default=default, help=what)
    parser.add_argument(
        "--cloud-kind",
        default=OWN_CLOUDS,
        metavar="KIND",
        help=f"{OWN_CLOUDS}, the dataset's own; thin, thick or varied, which mm_ovseg[clouds] draws (default: "
        f"{OWN_CLOUDS})",
    )
    parser.add_argument("--domain", choices=sorted(DOMAINS), default="a", help="region of the world (default: a)")
    parser.add_argument("--file-format", choices=FILE_FORMATS, default="png", help="PNG or GeoTIFF (default: png)")
    arguments = vars(parser.parse_args(arguments))
    arguments["cloud_thickness"] = tuple(arguments["cloud_thickness"])
    arguments["cloud_cover"] = tuple(arguments["cloud_cover"])
    root = arguments.pop("root")
    written = write_synthetic_dataset(root, show_progress=True, **arguments)
    print(f"{root}: {arguments['num_train']} training and {arguments['num_val']} validation scenes", end="")
    print(" written." if written else " already exist.")


if __name__ == "__main__":
    main()
