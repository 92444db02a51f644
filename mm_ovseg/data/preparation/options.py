"""What the command lines of ``datasets/prepare_*.py`` have in common."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from mm_ovseg.data.builtin import CMU_FOLDER
from mm_ovseg.data.preparation.dropped import Dropped
from mm_ovseg.data.preparation.pairing import TilePair
from mm_ovseg.data.preparation.prepare import Preparation, Split, prepare_pairs
from mm_ovseg.data.preparation.settings import AUTO_SCALE, PairSettings
from mm_ovseg.data.preparation.sources import gather_files
from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import SAR_UNITS

__all__ = [
    "add_pair_arguments",
    "pair_settings",
    "run",
]


def add_pair_arguments(parser: argparse.ArgumentParser, defaults: PairSettings) -> None:
    """Add the arguments that all archives of unlabelled pairs share; ``defaults`` are those of the archive."""

    def number_or_none(text: str) -> float | None:
        return None if text == "none" else float(text)

    _add_file_arguments(parser, Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / CMU_FOLDER)
    pixels = parser.add_argument_group("pixels")
    pixels.add_argument(
        "--size",
        type=int,
        default=defaults.size,
        help=f"largest side of a pair; larger tiles are cut; 0: whole tiles (default: {defaults.size})",
    )
    pixels.add_argument(
        "--overlap", type=int, default=defaults.overlap, help="least overlap of windows, in pixels (default: 0)"
    )
    pixels.add_argument(
        "--min-valid",
        type=float,
        default=defaults.min_valid,
        help=f"least share of a pair with both RGB and SAR (default: {defaults.min_valid:g})",
    )
    _add_intensity_arguments(pixels, defaults)
    for kind, default in (("rgb", defaults.rgb_nodata), ("sar", defaults.sar_nodata)):
        pixels.add_argument(
            f"--{kind}-nodata",
            type=number_or_none,
            default=default,
            metavar="VALUE",
            help=f"{kind.upper()} value without data, besides what the files say; or none (default: "
            f"{'none' if default is None else format(default, 'g')})",
        )
    split = parser.add_argument_group("split")
    split.add_argument("--val-fraction", type=float, default=0.1, help="share to hold out, about (default: 0.1)")
    split.add_argument("--seed", type=int, default=0, help="another one holds out others (default: 0)")


def pair_settings(args: argparse.Namespace, sar_bands: Sequence[int]) -> PairSettings:
    """The settings that a command line asks for.

    Raises:
        ConfigError: A value is out of range.
    """
    if args.workers < 1:
        raise ConfigError(f"--workers is {args.workers}; give 1 or more.")
    if not 0 <= args.val_fraction < 1:
        raise ConfigError(f"--val-fraction is {args.val_fraction}; give a share from 0 to below 1.")
    return PairSettings(
        size=args.size,
        overlap=args.overlap,
        rgb_range=tuple(args.rgb_range),
        rgb_nodata=args.rgb_nodata,
        sar_bands=tuple(sar_bands),
        sar_scale=args.sar_scale,
        sar_range=tuple(args.sar_range),
        sar_nodata=args.sar_nodata,
        min_valid=args.min_valid,
    )


def run(
    args: argparse.Namespace,
    *,
    archive: str,
    prefix: str,
    settings: PairSettings,
    split: Split,
    wanted: Callable[[PurePosixPath], bool],
    find_pairs: Callable[[Sequence[Path]], tuple[list[TilePair], list[Dropped]]],
) -> None:
    """Do what a command line asks for, and print the summary.

    Args:
        args: The command line, with the arguments of :func:`add_pair_arguments`.
        archive, prefix, settings, split: As in :class:`Preparation`.
        wanted: Says of a path, in an archive or below a folder, whether the file is needed.
        find_pairs: Makes tiles of the paths of those files, which need not exist yet.

    Raises:
        DataError, ConfigError: As :func:`prepare_pairs` and :func:`gather_files`.
    """
    work = args.work or args.output / "sources"
    what = f"tiles in the folders of {archive}"
    files, packed = gather_files(args.inputs, wanted, what=what, work=work, dry_run=args.dry_run)
    pairs, dropped = find_pairs([*files, *packed])
    if packed:
        gigabytes = sum(packed.values()) / 1e9
        print(
            f"{archive}: {len(pairs)} tiles. {len(packed)} files ({gigabytes:.2f} GB) would be unpacked to {work}; "
            "only then can a dry run tell which pairs they give."
        )
        return
    preparation = Preparation(
        archive, prefix, args.output, settings, split, args.workers, strict=args.strict, dry_run=args.dry_run
    )
    summary = prepare_pairs(preparation, pairs, dropped)
    print(summary.format())
    if args.dry_run:
        print("A dry run: nothing was written.")
        return
    print(f"Pairs and manifest_{prefix}.json are in {args.output}.")
    if work.is_dir():
        print(f"{work} holds the unpacked archives, which are no longer needed.")


def _add_file_arguments(parser: argparse.ArgumentParser, default_output: Path) -> None:
    """Add the arguments on what is read and written, and how the run goes."""
    parser.add_argument("inputs", type=Path, nargs="+", metavar="IN", help="the archives, or folders they lie in")
    files = parser.add_argument_group("files")
    files.add_argument("--output", type=Path, default=default_output, help=f"folder (default: {default_output})")
    files.add_argument("--work", type=Path, help="where archives are unpacked to (default: sources/ in the output)")
    files.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    files.add_argument("--strict", action="store_true", help="stop at a tile that cannot be read, instead of naming it")
    files.add_argument("--dry-run", action="store_true", help="say what would be made, and write nothing")


def _add_intensity_arguments(group: argparse._ArgumentGroup, defaults: PairSettings) -> None:
    """Add the arguments on how numbers that are not 8-bit become so."""
    low, high = defaults.rgb_range
    group.add_argument(
        "--rgb-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=defaults.rgb_range,
        help=f"what becomes 0 and 255 where RGB is not 8-bit (default: {low:g} {high:g}, 11 bits)",
    )
    scale = "8-bit files as they are, others as amplitude" if defaults.sar_scale == AUTO_SCALE else defaults.sar_scale
    group.add_argument(
        "--sar-scale",
        choices=(AUTO_SCALE, *SAR_UNITS),
        default=defaults.sar_scale,
        help=f"what the SAR files hold (default: {scale})",
    )
    group.add_argument(
        "--sar-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=(),
        help="dB that become 0 and 255 (default: 1st and 99th percentile of the archive, measured once for all tiles)",
    )
