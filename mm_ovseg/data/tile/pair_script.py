"""Shared command-line code of ``datasets/prepare_*.py``."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mm_ovseg.data.builtin import CMU_FOLDER
from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.tile.published_pairs import AUTO_SCALE, Assign, tile_pairs
from mm_ovseg.data.tile.settings import TileRun, TileSettings
from mm_ovseg.data.tile.unpacking import Wanted, gather_files
from mm_ovseg.errors import ConfigError
from mm_ovseg.jobs import Skipped
from mm_ovseg.raster import SAR_UNITS, RGBReader, SARReader

__all__ = ["add_pair_arguments", "pair_run", "prepare_pairs"]


def add_pair_arguments(
    parser: argparse.ArgumentParser, *, size: int = 512, sar_scale: str = AUTO_SCALE, nodata: float | None = None
) -> None:
    """Add the arguments that all scripts for archives of unlabelled pairs share.

    Args:
        parser: Parser of the script.
        size, sar_scale, nodata: Defaults for the archive.
    """

    def number_or_none(text: str) -> float | None:
        return None if text == "none" else float(text)

    output = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / CMU_FOLDER
    parser.add_argument("inputs", type=Path, nargs="+", metavar="IN", help="the archives, or folders that contain them")
    add = parser.add_argument_group("files").add_argument
    add("--output", type=Path, default=output, help=f"folder (default: {output})")
    add("--work", type=Path, help="folder for unpacked archives (default: sources/ in the output)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="number of processes (default: one per core)")
    add("--strict", action="store_true", help="stop at a file that cannot be read instead of skipping it")
    add("--dry-run", action="store_true", help="show what would be made, but write nothing")
    add = parser.add_argument_group("pixels").add_argument
    add("--size", type=int, default=size, help=f"maximum side of a pair in pixels; 0: whole tiles (default: {size})")
    add("--overlap", type=int, default=0, help="minimum overlap of windows in pixels (default: 0)")
    add("--min-valid", type=float, default=0.5, help="minimum share with both RGB and SAR (default: 0.5)")
    low_high = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
    shown = "values that become 0 and 255 if RGB is not 8-bit (default: 0 2047, 11 bits)"
    add("--rgb-range", **low_high, default=(0.0, 2047.0), help=shown)
    shown = "8-bit files as they are, others as amplitude" if sar_scale == AUTO_SCALE else sar_scale
    scales = (AUTO_SCALE, *SAR_UNITS)
    add("--sar-scale", choices=scales, default=sar_scale, help=f"unit of the SAR files (default: {shown})")
    shown = "dB that become 0 and 255 (default: 1st and 99th percentile, measured once for all tiles)"
    add("--sar-range", **low_high, default=(), help=shown)
    shown = "none" if nodata is None else f"{nodata:g}"
    for kind in ("rgb", "sar"):
        add(
            f"--{kind}-nodata",
            type=number_or_none,
            default=nodata,
            metavar="VALUE",
            help=f"{kind.upper()} nodata value, besides those in the files; or none (default: {shown})",
        )
    add = parser.add_argument_group("split").add_argument
    add("--val-fraction", type=float, default=0.1, help="approximate share to hold out (default: 0.1)")
    add("--seed", type=int, default=0, help="seed of the split (default: 0)")


def pair_run(args: argparse.Namespace, *, name: str, prefix: str, sar_bands: Sequence[int]) -> TileRun:
    """The run for a command line; ``name`` is the archive's, ``prefix`` that of its tiles.

    Raises:
        ConfigError: A value is out of range.
    """
    if not 0 <= args.val_fraction < 1:
        raise ConfigError(f"--val-fraction is {args.val_fraction}; give a share from 0 to below 1.")
    if not 1 <= len(sar_bands) <= 3 or min(sar_bands) < 1:
        raise ConfigError(f"The SAR bands are {list(sar_bands)}; give one to three, from 1.")
    for option, low_high in (("--rgb-range", args.rgb_range), ("--sar-range", args.sar_range)):
        if low_high and not low_high[0] < low_high[1]:
            raise ConfigError(f"{option} is {low_high[0]:g} {low_high[1]:g}; the first must be below the second.")
    settings = TileSettings(
        size=args.size,
        overlap=args.overlap,
        spread=True,
        rgb=RGBReader(bands=(1, 2, 3), value_range=tuple(args.rgb_range), nodata=args.rgb_nodata),
        sar=SARReader(bands=tuple(sar_bands), nodata=args.sar_nodata),
        any_format=False,
        min_valid=args.min_valid,
    )
    return TileRun(
        name=name,
        output=args.output,
        settings=settings,
        prefix=prefix,
        workers=args.workers,
        strict=args.strict,
        dry_run=args.dry_run,
    )


def prepare_pairs(
    args: argparse.Namespace,
    run: TileRun,
    assign: Assign,
    *,
    split: dict,
    wanted: Wanted,
    match: Callable[[Sequence[Path]], tuple[list[SceneFiles], list[Skipped]]],
) -> None:
    """Prepare the pairs as a command line asks, and print the report.

    Args:
        args: The command line, with the arguments of :func:`add_pair_arguments`.
        run, assign, split: See :func:`~mm_ovseg.data.tile.published_pairs.tile_pairs`.
        wanted: Whether the file at a path, in an archive or a folder, is needed.
        match: Matches such files, which need not exist yet, to pairs.

    Raises:
        DataError, ConfigError: See ``tile_pairs`` and :func:`~mm_ovseg.data.tile.unpacking.gather_files`.
    """
    work = args.work or args.output / "sources"
    what = f"tiles in the folders of {run.name}"
    files, packed = gather_files(args.inputs, wanted, what=what, work=work, dry_run=args.dry_run)
    pairs, skipped = match([*files, *packed])
    if packed:
        gigabytes = sum(packed.values()) / 1e9
        print(
            f"{run.name}: {len(pairs)} tiles. {len(packed)} files ({gigabytes:.2f} GB) would be unpacked to {work}; "
            "only then can a dry run show which pairs they give."
        )
        return
    report = tile_pairs(
        run, pairs, assign, split=split, skipped=skipped, sar_scale=args.sar_scale, sar_range=tuple(args.sar_range)
    )
    print(report.format())
    if args.dry_run:
        print("Dry run: nothing was written.")
        return
    print(f"Pairs and manifest_{run.prefix.rstrip('_')}.json are in {args.output}.")
    if work.is_dir():
        print(f"{work} contains the unpacked archives, which are no longer needed.")
