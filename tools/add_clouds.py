#!/usr/bin/env python
"""Draw clouds over a folder of clear RGB images, and write a mask of them; seeded, resumable.

python tools/add_clouds.py clear_rgb kinds.png                     # a picture of all kinds, to choose by
python tools/add_clouds.py clear_rgb cloudy --kind thick --seed 0
python tools/add_clouds.py clear_rgb cloudy --kind varied --cover 0.3 0.6 --workers 8
python tools/add_clouds.py clear_rgb cloudy --kind fractal --dry-run

    cloudy/rgb_clouds/NAME.tif      the image under clouds and their shadow: the file's type, bands, place on the ground
                                    and what it says of no data are kept (JPEG is compressed again, with quality 95)
    cloudy/cloud_masks/NAME.tif     opacity of the cloud, haze included: 0 (clear) to 255 (nothing of the ground is
                                    visible); PNG for PNG and JPEG images. Shadow counts as clear
    cloudy/manifest_clouds.json     settings, versions; each file's seed, SHA-256, mean opacity and covered share

Kinds: thin, thick and varied are drawn with satellite-cloud-generator, which the thin and thick variants of
OpenEarthMap-SAR were made with (pip install 'mm_ovseg[clouds]'); fractal are those of the synthetic dataset. A file's
clouds follow from --seed and its name without suffix, whatever else lies in the folder.

Only pixels under clouds and shadow change. Files that are not 8-bit need --rgb-range, as INPUT.RGB.RANGE, and stay in
their type; 8-bit files beside them are taken as they are. Grey and palette images become RGB.

Exit status: 0, all is done; 1, some images could not be read, they are named; 2, something is to be mended first, one
sentence says what; 130, stopped by Ctrl-C: the same command goes on.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mm_ovseg.command_line import INTERRUPTED, clean_exit
from mm_ovseg.data.clouds import CLOUDS_REGISTRY
from mm_ovseg.data.cloudy_images import IMAGES, MASKS, CloudSettings, add_clouds, find_rasters
from mm_ovseg.errors import ConfigError
from mm_ovseg.visualization.cloud_sheet import draw_cloud_sheet

SOME_FAILED = 1
PICTURES = (".png", ".jpg", ".pdf")
SHEET_ROWS = 2
SHEET_KINDS = ("thin", "thick", "varied", "fractal")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, metavar="INPUT_FOLDER", help="holds clear PNG, JPEG or GeoTIFF images")
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT", help="folder to write to, not in INPUT_FOLDER; without --kind, a picture"
    )
    kinds = sorted(name for name, _ in CLOUDS_REGISTRY)
    parser.add_argument("--kind", choices=kinds, help="what clouds to draw (default: a picture of all kinds)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same clouds (default: 0)")
    parser.add_argument(
        "--cover",
        type=float,
        nargs=2,
        default=(),
        metavar=("LOW", "HIGH"),
        help="share of the ground under clouds, 0 to 1, drawn for each image (default: what the kind brings)",
    )
    parser.add_argument(
        "--rgb-bands",
        type=int,
        nargs=3,
        default=(),
        metavar=("RED", "GREEN", "BLUE"),
        help="1-based (default: those that the file calls so, else its first three)",
    )
    parser.add_argument(
        "--rgb-range",
        type=float,
        nargs=2,
        default=(),
        metavar=("LOW", "HIGH"),
        help="what becomes 0 and 255 where images are not 8-bit (INPUT.RGB.RANGE)",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be made, and write nothing")
    return parser.parse_args(arguments)


def draw_sheet(args: argparse.Namespace) -> None:
    """Draw the first images under every kind of clouds.

    Raises:
        ConfigError: the output is not a picture.
        DataError: there are no images, one cannot be read, or the picture cannot be written.
    """
    if args.output.suffix.lower() not in PICTURES:
        raise ConfigError(
            f"Give --kind to write to {args.output}, or a .png, .jpg or .pdf file for a picture of all kinds."
        )
    images = list(find_rasters(args.input, args.output).items())[:SHEET_ROWS]
    draw_cloud_sheet(
        args.output,
        images,
        SHEET_KINDS,
        seed=args.seed,
        cover=args.cover,
        rgb_bands=args.rgb_bands,
        rgb_range=args.rgb_range,
    )
    print(f"{args.output}: {len(images)} images under {', '.join(SHEET_KINDS)} clouds; --kind chooses one.")


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the clouds."""
    args = parse_arguments(arguments)
    if args.workers < 1:
        raise ConfigError(f"--workers is {args.workers}; give 1 or more.")
    if args.kind is None:
        draw_sheet(args)
        return
    settings = CloudSettings(args.kind, args.seed, tuple(args.cover), tuple(args.rgb_bands), tuple(args.rgb_range))
    try:
        finished = add_clouds(args.input, args.output, settings, workers=args.workers, dry_run=args.dry_run)
    except KeyboardInterrupt:
        print(f"Stopped; the same command goes on in {args.output}.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    count = len(finished.made)
    if args.dry_run:
        print(f"{count} images would get clouds of the kind '{args.kind}'. A dry run: nothing was written.")
    else:
        opacity = sum(entry["mean_opacity"] for entry in finished.made) / max(count, 1)
        before = f" ({finished.done_before} were there already)" if finished.done_before else ""
        print(f"{args.output}: {count} images{before} in {IMAGES}, their masks in {MASKS}; mean opacity {opacity:.2f}.")
    if finished.skipped:
        print(f"{len(finished.skipped)} of {count + len(finished.skipped)} images cannot be read.", file=sys.stderr)
        sys.exit(SOME_FAILED)


if __name__ == "__main__":
    main()
