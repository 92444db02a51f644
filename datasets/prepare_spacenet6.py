#!/usr/bin/env python
r"""Make 8-bit RGB-SAR pairs for stage 1 of SpaceNet 6 (Rotterdam; 0.5 m optical and SAR).

python datasets/prepare_spacenet6.py SN6_buildings_AOI_11_Rotterdam_train.tar.gz
python datasets/prepare_spacenet6.py train/AOI_11_Rotterdam --polarisations HH HV VV --dry-run
python datasets/prepare_spacenet6.py train/AOI_11_Rotterdam --size 0 --sar-range 10 60 --output datasets/CMU

Takes the training archive as downloaded, or the folder it was unpacked to; the test archive has no RGB. Every tile
`..._PS-RGB_<strip>_tile_<n>.tif` is paired with `..._SAR-Intensity_<strip>_tile_<n>.tif` and cut into windows
(900 = 2 x 450 pixels). The SAR values are log-scaled intensities in dB already.

Neighbouring SAR strips show the same ground, so tiles are held out by place: the ground is cut into squares of
--block metres, of which about --val-fraction are held out, and a training tile that overlaps a held-out tile is
dropped. Interrupted, the same command goes on where it was.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.data.preparation.dropped import Dropped
from mm_ovseg.data.preparation.options import add_pair_arguments, pair_settings, run
from mm_ovseg.data.preparation.pairing import TilePair, pair_tiles
from mm_ovseg.data.preparation.prepare import Split
from mm_ovseg.data.preparation.settings import PairSettings
from mm_ovseg.data.split import split_into_squares
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import RasterInfo
from mm_ovseg.raster.footprint import EARTH, footprints

RGB, SAR = "PS-RGB", "SAR-Intensity"  # folders of the archive, and parts of its file names
POLARISATIONS = ("HH", "HV", "VH", "VV")  # the bands of the SAR files
DEFAULTS = PairSettings(size=450, sar_scale="db", rgb_nodata=0.0, sar_nodata=0.0)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_pair_arguments(parser, DEFAULTS)
    parser.add_argument(
        "--polarisations",
        nargs="+",
        choices=POLARISATIONS,
        default=["HH"],
        help="one to three, which become the channels (default: HH alone, as most SAR of the settings has one)",
    )
    parser.add_argument(
        "--block", type=float, default=1000.0, help="side of held-out squares, in metres (default: 1000)"
    )
    return parser.parse_args(arguments)


def is_wanted(path: PurePosixPath) -> bool:
    """Whether a file of the archive is an RGB or a SAR tile."""
    return path.parent.name in (RGB, SAR) and path.suffix.lower() in (".tif", ".tiff")


def tile_name(path: Path) -> str:
    """Strip and number of a tile, which RGB and SAR share."""
    return path.stem.split(f"_{path.parent.name}_")[-1]


def find_pairs(files: Sequence[Path]) -> tuple[list[TilePair], list[Dropped]]:
    """The tiles among the files."""
    rgb, sar = ([path for path in files if path.parent.name == kind] for kind in (RGB, SAR))
    return pair_tiles(rgb, sar, name_of=tile_name)


def split_by_place(headers: Sequence[RasterInfo], *, val_fraction: float, block: float, seed: int) -> list[str | None]:
    """Hold out squares of ground, ``block`` metres wide; see :func:`~mm_ovseg.data.split.split_into_squares`.

    Raises:
        DataError: A tile does not say where on the Earth it lies.
    """
    places = footprints(headers)
    for header, place in zip(headers, places, strict=True):
        if place is None or place.plane != EARTH:
            raise DataError(
                f"{header.path} has no georeference, so it cannot be held out by place; take the original file."
            )
    return split_into_squares(places, sides={EARTH: block}, val_fraction=val_fraction, seed=seed)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the pairs."""
    args = parse_arguments(arguments)
    settings = pair_settings(args, [POLARISATIONS.index(name) + 1 for name in args.polarisations])
    if args.block <= 0:
        raise ConfigError(f"--block is {args.block:g}; give a number of metres above 0.")
    place = {"val_fraction": args.val_fraction, "block": args.block, "seed": args.seed}
    run(
        args,
        archive="SpaceNet 6",
        prefix="sn6",
        settings=settings,
        split=Split(lambda pairs, headers: split_by_place(headers, **place), {"split_by": "place", **place}),
        wanted=is_wanted,
        find_pairs=find_pairs,
    )


if __name__ == "__main__":
    main()
