#!/usr/bin/env python
r"""Make 8-bit RGB-SAR pairs for stage 1 of the IEEE GRSS Data Fusion Contest 2023 (17 cities; 0.5-1 m).

python datasets/prepare_dfc2023.py track1.zip track2.zip
python datasets/prepare_dfc2023.py track1/train --val-cities Barcelona SanDiego --dry-run
python datasets/prepare_dfc2023.py track1 --sar-scale amplitude --sar-range 20 75

Takes the archives as downloaded, or the folders they were unpacked to: whatever lies in folders named `rgb` and `sar`
is paired by its name, such as GF2_Barcelona_41.38_2.15.tif. Files that both tracks hold are taken once.

All tiles of a city are held out together, whichever satellite took them: --val-cities, or about --val-fraction of the
cities. Of tiles whose names tell no city, neighbours are held out together: one side of the map, or names that follow
each other. A training tile that shares ground with a held-out one is dropped. Interrupted, the same command goes on
where it was.

Written from the published description of the data; it has not been run on the archives themselves.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.data.preparation.dropped import Dropped
from mm_ovseg.data.preparation.options import add_pair_arguments, pair_settings, run
from mm_ovseg.data.preparation.pairing import TilePair, pair_tiles
from mm_ovseg.data.preparation.prepare import Split
from mm_ovseg.data.preparation.settings import PairSettings
from mm_ovseg.data.split import hold_out, keep_apart, split_by_scene
from mm_ovseg.raster import RasterInfo
from mm_ovseg.raster.footprint import footprints

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
    """The city that a tile's name tells; empty where it tells none."""
    match = TILE_NAME.match(name)
    return match["city"] if match else ""


def find_pairs(files: Sequence[Path]) -> tuple[list[TilePair], list[Dropped]]:
    """The tiles among the files."""
    rgb, sar = ([path for path in files if path.parent.name.lower() == kind] for kind in (RGB, SAR))
    return pair_tiles(rgb, sar, name_of=lambda path: path.stem, scene_of=city_of)


def split_by_city(
    pairs: Sequence[TilePair],
    headers: Sequence[RasterInfo],
    *,
    val_fraction: float,
    seed: int,
    held_out: Sequence[str],
) -> list[str | None]:
    """Hold out whole cities, and of tiles without a city those of one side; no training tile overlaps one of them.

    Args:
        pairs: The tiles, whose scenes are the cities.
        headers: Of their RGB files.
        val_fraction: Share of the cities, and of the tiles without, to hold out.
        seed: Another one holds out others.
        held_out: The cities to hold out, instead of a share.

    Returns:
        For each tile "train", "val", or None for one that would be trained on but overlaps a held-out tile.

    Raises:
        ConfigError: A city to be held out does not exist.
    """
    places = footprints(headers)
    cities = [pair.scene for pair in pairs if pair.scene]
    split_of = dict(
        zip(cities, split_by_scene(cities, val_fraction=val_fraction, seed=seed, held_out=held_out), strict=True)
    )
    strays = [index for index, pair in enumerate(pairs) if not pair.scene]
    names = [pairs[index].name for index in strays]
    val_names: set[str] = set()
    if strays and val_fraction > 0 and not held_out:
        split = hold_out(
            names,
            footprints=[places[index] for index in strays],
            contents=names,
            classes=[{}] * len(names),
            val_fraction=val_fraction,
            seed=seed,
        )
        val_names.update(split.val)
        warning = f"warning: {len(names)} names tell no city, such as {names[0]}; of these tiles: {split.how}."
        print(warning, file=sys.stderr)
    return keep_apart(places, [pair.name in val_names or split_of.get(pair.scene) == "val" for pair in pairs])


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
            lambda pairs, headers: split_by_city(pairs, headers, **scenes),
            {"split_by": "city", **scenes},
        ),
        wanted=is_wanted,
        find_pairs=find_pairs,
    )


if __name__ == "__main__":
    main()
