#!/usr/bin/env python
r"""Make 8-bit RGB-SAR pairs for stage 1 of SpaceNet 6 (Rotterdam; 0.5 m optical and SAR).

python datasets/prepare_spacenet6.py SN6_buildings_AOI_11_Rotterdam_train.tar.gz
python datasets/prepare_spacenet6.py train/AOI_11_Rotterdam --polarisations HH HV VV --dry-run
python datasets/prepare_spacenet6.py train/AOI_11_Rotterdam --size 0 --sar-range 10 60 --output datasets/CMU

Takes the training archive as downloaded, or the folder it was unpacked to; the test archive has no RGB. Every tile
`..._PS-RGB_<strip>_tile_<n>.tif` is paired with `..._SAR-Intensity_<strip>_tile_<n>.tif` and cut into windows
(900 = 2 x 450 pixels). The SAR values are already intensities in dB.

Neighbouring SAR strips overlap, so tiles are held out by location: the ground is divided into squares of --block
metres, of which about --val-fraction are held out, and a training tile that overlaps a held-out tile is skipped. If
interrupted, the same command continues.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.split import split_into_squares
from mm_ovseg.data.tile.pair_script import add_pair_arguments, pair_run, prepare_pairs
from mm_ovseg.data.tile.published_pairs import match_by_name
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.jobs import Skipped
from mm_ovseg.raster.footprint import EARTH, Footprint

RGB, SAR = "PS-RGB", "SAR-Intensity"  # folders of the archive, and parts of its file names
POLARISATIONS = ("HH", "HV", "VH", "VV")  # the bands of the SAR files


def is_wanted(path: PurePosixPath) -> bool:
    """Whether a file of the archive is an RGB or a SAR tile."""
    return path.parent.name in (RGB, SAR) and path.suffix.lower() in (".tif", ".tiff")


def match(files: Sequence[Path]) -> tuple[list[SceneFiles], list[Skipped]]:
    """The pairs of files with the same strip and tile number."""
    rgb, sar = ([path for path in files if path.parent.name == kind] for kind in (RGB, SAR))
    return match_by_name(rgb, sar, lambda path: path.stem.split(f"_{path.parent.name}_")[-1])


def split_by_place(
    names: Sequence[str],
    places: Sequence[Footprint | None],
    paths: Sequence[Path],
    *,
    val_fraction: float,
    block: float,
    seed: int,
) -> list[str | None]:
    """Hold out squares of ground, ``block`` metres wide; see :func:`~mm_ovseg.data.split.split_into_squares`.

    Raises:
        DataError: A tile has no georeference.
    """
    for path, place in zip(paths, places, strict=True):
        if place is None or place.plane != EARTH:
            raise DataError(f"{path} has no georeference, so it cannot be held out by location; use the original file.")
    return split_into_squares(places, sides={EARTH: block}, val_fraction=val_fraction, seed=seed)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_pair_arguments(parser, size=450, sar_scale="db", nodata=0.0)
    parser.add_argument(
        "--polarisations",
        nargs="+",
        choices=POLARISATIONS,
        default=["HH"],
        help="one to three, used as channels (default: HH)",
    )
    parser.add_argument(
        "--block", type=float, default=1000.0, help="side of held-out squares, in metres (default: 1000)"
    )
    args = parser.parse_args(arguments)
    bands = [POLARISATIONS.index(name) + 1 for name in args.polarisations]
    run = pair_run(args, name="SpaceNet 6", prefix="sn6_", sar_bands=bands)
    if args.block <= 0:
        raise ConfigError(f"--block is {args.block:g}; give a number of metres above 0.")
    squares = {"val_fraction": args.val_fraction, "block": args.block, "seed": args.seed}
    split = {"split_by": "place", **squares}
    prepare_pairs(args, run, partial(split_by_place, **squares), split=split, wanted=is_wanted, match=match)


if __name__ == "__main__":
    main()
