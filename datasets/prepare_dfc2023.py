#!/usr/bin/env python
r"""Make 8-bit RGB-SAR pairs for stage 1 of the IEEE GRSS Data Fusion Contest 2023 (17 cities; 0.5-1 m).

python datasets/prepare_dfc2023.py track1.zip track2.zip
python datasets/prepare_dfc2023.py track1/train --val-cities Barcelona SanDiego --dry-run
python datasets/prepare_dfc2023.py track1 --sar-scale amplitude --sar-range 20 75

Takes the archives as downloaded, or the folders they were unpacked to. Files in folders named `rgb` and `sar` are
paired by name, such as GF2_Barcelona_41.38_2.15.tif. Files in both tracks are used once.

All tiles of a city are held out together, whichever satellite took them: those of --val-cities, or of about
--val-fraction of the cities. Tiles without a city in their names are held out as neighbours: one side of the map, or
consecutive names. A training tile that overlaps a held-out tile is skipped. If interrupted, the same command continues.

Written from the published description of the data; it has not been run on the archives themselves.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.split import hold_out, keep_apart, split_by_scene
from mm_ovseg.data.tile.pair_script import add_pair_arguments, pair_run, prepare_pairs
from mm_ovseg.data.tile.published_pairs import match_by_name
from mm_ovseg.jobs import Skipped
from mm_ovseg.raster.footprint import Footprint

RGB, SAR = "rgb", "sar"  # folders of the archive
# Satellite (GF2: Gaofen-2, SV: SuperView), city, and the identifier of the tile.
TILE_NAME = re.compile(r"(?:(?:GF\d?|SV)_)?(?P<city>[^_\d]+)", re.IGNORECASE)


def is_wanted(path: PurePosixPath) -> bool:
    """Whether a file of the archive is an RGB or a SAR tile."""
    return path.parent.name.lower() in (RGB, SAR) and path.suffix.lower() in (".tif", ".tiff")


def match(files: Sequence[Path]) -> tuple[list[SceneFiles], list[Skipped]]:
    """The pairs of files with the same name."""
    rgb, sar = ([path for path in files if path.parent.name.lower() == kind] for kind in (RGB, SAR))
    return match_by_name(rgb, sar, lambda path: path.stem)


def split_by_city(
    names: Sequence[str],
    places: Sequence[Footprint | None],
    paths: Sequence[Path],
    *,
    val_fraction: float,
    seed: int,
    held_out: Sequence[str],
) -> list[str | None]:
    """Hold out whole cities (those given, or a share), and tiles without a city on one side of the map.

    Raises:
        ConfigError: A city to be held out does not exist.
    """
    cities = [found["city"] if (found := TILE_NAME.match(name)) else "" for name in names]
    known = [city for city in cities if city]
    splits = split_by_scene(known, val_fraction=val_fraction, seed=seed, held_out=held_out)
    split_of = dict(zip(known, splits, strict=True))
    strays = [index for index, city in enumerate(cities) if not city]
    val_names: set[str] = set()
    if strays and val_fraction > 0 and not held_out:
        stray_names = [names[index] for index in strays]
        split = hold_out(
            stray_names,
            footprints=[places[index] for index in strays],
            contents=stray_names,
            classes=[{}] * len(strays),
            val_fraction=val_fraction,
            seed=seed,
        )
        val_names.update(split.val)
        print(
            f"warning: {len(strays)} names have no city, such as {stray_names[0]}; of these tiles: {split.how}.",
            file=sys.stderr,
        )
    is_val = [name in val_names or split_of.get(city) == "val" for name, city in zip(names, cities, strict=True)]
    return keep_apart(places, is_val)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_pair_arguments(parser)
    parser.add_argument(
        "--sar-bands", type=int, nargs="+", default=[1], metavar="BAND", help="one to three bands, from 1 (default: 1)"
    )
    parser.add_argument(
        "--val-cities",
        nargs="+",
        default=[],
        metavar="CITY",
        help="hold out these cities, regardless of --val-fraction",
    )
    args = parser.parse_args(arguments)
    run = pair_run(args, name="DFC2023", prefix="dfc2023_", sar_bands=args.sar_bands)
    cities = {"val_fraction": args.val_fraction, "seed": args.seed, "held_out": sorted(args.val_cities)}
    split = {"split_by": "city", **cities}
    prepare_pairs(args, run, partial(split_by_city, **cities), split=split, wanted=is_wanted, match=match)


if __name__ == "__main__":
    main()
