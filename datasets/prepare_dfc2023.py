#!/usr/bin/env python
r"""Make 8-bit RGB-SAR pairs for stage 1 of the IEEE GRSS Data Fusion Contest 2023 (17 cities; 0.5-1 m).

python datasets/prepare_dfc2023.py track1.zip track2.zip
python datasets/prepare_dfc2023.py track1/train --val-cities Barcelona SanDiego --dry-run
python datasets/prepare_dfc2023.py track1 --sar-scale amplitude --sar-range 20 75

Takes the archives as downloaded, or the folders they were unpacked to: whatever lies in folders named `rgb` and `sar`
is paired by its name, such as GF2_Barcelona_41.38_2.15.tif. Files that both tracks hold are taken once.

All tiles of a city are held out together, whichever satellite took them: --val-cities, or about --val-fraction of the
cities. Interrupted, the same command goes on where it was.

Written from the published description of the data; it has not been run on the archives themselves.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mm_ovseg.command_line import clean_exit
from mm_ovseg.data.preparation.dropped import Dropped
from mm_ovseg.data.preparation.options import add_pair_arguments, pair_settings, run
from mm_ovseg.data.preparation.pairing import TilePair, pair_tiles
from mm_ovseg.data.preparation.prepare import Split
from mm_ovseg.data.preparation.settings import PairSettings
from mm_ovseg.data.preparation.split import split_by_scene

RGB, SAR = "rgb", "sar"  # folders of the archive
# Satellite (GF2: Gaofen-2, SV: SuperView), city, and whatever tells its tiles apart.
TILE_NAME = re.compile(r"(?:(?:GF\d?|SV)_)?(?P<city>[^_\d]+)", re.IGNORECASE)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_pair_arguments(parser, PairSettings())
    parser.add_argument(
        "--sar-bands", type=int, nargs="+", default=[1], metavar="BAND", help="one to three, from 1 (default: 1)"
    )
    parser.add_argument(
        "--val-cities", nargs="+", default=[], metavar="CITY", help="hold out these, whatever the share"
    )
    return parser.parse_args(arguments)


def is_wanted(path: PurePosixPath) -> bool:
    """Whether a file of the archive is an RGB or a SAR tile."""
    return path.parent.name.lower() in (RGB, SAR) and path.suffix.lower() in (".tif", ".tiff")


def city_of(name: str) -> str:
    """The city that a tile's name tells; the whole name where it tells none."""
    match = TILE_NAME.match(name)
    return match["city"] if match else name


def find_pairs(files: Sequence[Path]) -> tuple[list[TilePair], list[Dropped]]:
    """The tiles among the files."""
    rgb, sar = ([path for path in files if path.parent.name.lower() == kind] for kind in (RGB, SAR))
    return pair_tiles(rgb, sar, name_of=lambda path: path.stem, scene_of=city_of)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the pairs."""
    args = parse_arguments(arguments)
    scenes = {"val_fraction": args.val_fraction, "seed": args.seed, "held_out": sorted(args.val_cities)}
    run(
        args,
        archive="DFC2023",
        prefix="dfc2023",
        settings=pair_settings(args, args.sar_bands),
        split=Split(
            lambda pairs, headers: split_by_scene([pair.scene for pair in pairs], **scenes),
            {"split_by": "city", **scenes},
        ),
        wanted=is_wanted,
        find_pairs=find_pairs,
    )


if __name__ == "__main__":
    main()
