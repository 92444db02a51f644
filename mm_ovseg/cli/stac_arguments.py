"""The arguments that find images in a STAC catalogue, shared by ``mm-ovseg scene`` and ``mm-ovseg prepare``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mm_ovseg.errors import ConfigError

if TYPE_CHECKING:
    from mm_ovseg.products import FoundItems

__all__ = ["add_stac_arguments", "find_images"]


def add_stac_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where to search and for what."""
    parser.add_argument(
        "--stac",
        nargs="+",
        metavar="PLACE",
        help="STAC items, catalogues or APIs (files or addresses), in place of --rgb and --sar",
    )
    parser.add_argument("--date", metavar="DATES", help="of --stac: a day, month or year, or START/END")
    parser.add_argument("--collections", nargs="+", metavar="NAME", help="of --stac (default: all)")


def find_images(args: argparse.Namespace, folder: Path) -> "FoundItems | None":
    """The items that ``--stac`` leads to; None if it is not given.

    Args:
        args: With ``rgb``, ``sar``, ``aoi`` and ``aoi_layer``, too.
        folder: Where the choice is kept, so that the same command later takes the same items.

    Raises:
        ConfigError: Options contradict each other.
        ConfigError, DataError: See :func:`~mm_ovseg.products.find_items`.
    """
    from mm_ovseg.products import find_items

    if args.stac is None:
        if args.date is not None or args.collections is not None:
            raise ConfigError("--date and --collections belong to --stac; give that too, or leave them out.")
        return None
    if args.rgb or args.sar:
        raise ConfigError("--stac finds the images, so --rgb and --sar are not needed; leave them out, or --stac.")
    return find_items(
        args.stac,
        area=args.aoi,
        area_layer=args.aoi_layer,
        dates=args.date,
        collections=args.collections or (),
        folder=folder,
    )
