"""Draw clouds over a folder of clear RGB images, and write cloud masks; reproducible and resumable.

mm-ovseg dataset clouds clear_rgb kinds.png                     # a picture of all kinds, to choose from
mm-ovseg dataset clouds clear_rgb cloudy --kind thick --seed 0
mm-ovseg dataset clouds clear_rgb cloudy --kind varied --cover 0.3 0.6 --workers 8
mm-ovseg dataset clouds clear_rgb cloudy --kind fractal --dry-run

    cloudy/rgb_clouds/NAME.tif      the image under clouds and their shadows; the file's data type, bands, georeference
                                    and nodata value are kept (JPEG is compressed again, at quality 95)
    cloudy/cloud_masks/NAME.tif     opacity of the clouds, haze included: 0 (clear) to 255 (the ground is invisible);
                                    PNG for PNG and JPEG images. Shadow counts as clear
    cloudy/manifest_clouds.json     settings and versions; seed, SHA-256, mean opacity and cloud cover of each file

Kinds: thin, thick and varied are drawn by satellite-cloud-generator (pip install 'mm_ovseg[clouds]'), with which the
thin and thick variants of OpenEarthMap-SAR were made; fractal clouds need no library. The clouds of a file depend only
on --seed and its name without suffix.

Only pixels under clouds and shadow change. Files that are not 8-bit need --rgb-range (as INPUT.RGB.RANGE) and keep
their data type; 8-bit files in the same folder ignore it. Grey and palette images become RGB.

Exit status: 0, all images are done; 1, some images could not be read (they are listed); 2, nothing was done (the error
says what to fix); 130, stopped by Ctrl-C: the same command continues.
"""

import argparse
import os
import sys
from pathlib import Path

from mm_ovseg.cli.arguments import add_rgb_arguments, check_positive
from mm_ovseg.cli.clean_exit import stopping
from mm_ovseg.errors import ConfigError

SOME_FAILED = 1
PICTURES = (".png", ".jpg", ".pdf")
SHEET_ROWS = 2
KINDS = ("thin", "thick", "varied", "fractal")  # as in mm_ovseg.data.clouds.CLOUDS_REGISTRY


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folders, the clouds, and the options of reading."""
    parser.add_argument("input", type=Path, metavar="INPUT_FOLDER", help="folder of clear PNG, JPEG or GeoTIFF images")
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT", help="folder to write, outside INPUT_FOLDER; without --kind, a picture"
    )
    parser.add_argument("--kind", choices=KINDS, help="kind of clouds (default: draw a picture of all kinds)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same clouds (default: 0)")
    parser.add_argument(
        "--cover",
        type=float,
        nargs=2,
        default=(),
        metavar=("LOW", "HIGH"),
        help="range of the cloud cover, 0 to 1, drawn for each image (default: that of the kind)",
    )
    add_rgb_arguments(parser)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be written, and write nothing")


def run(args: argparse.Namespace) -> None:
    """Draw the clouds."""
    from mm_ovseg.data.cloudy_images import IMAGES, MASKS, CloudSettings, add_clouds

    check_positive(args, "workers")
    if args.kind is None:
        _draw_sheet(args)
        return
    settings = CloudSettings(args.kind, args.seed, tuple(args.cover), tuple(args.rgb_bands), tuple(args.rgb_range))
    with stopping(f"the same command continues in {args.output}."):
        finished = add_clouds(args.input, args.output, settings, workers=args.workers, dry_run=args.dry_run)
    count = len(finished.made)
    if args.dry_run:
        print(f"{count} images would get '{args.kind}' clouds. Dry run: nothing was written.")
    else:
        opacity = sum(entry["mean_opacity"] for entry in finished.made) / max(count, 1)
        before = f" ({finished.done_before} of them already done)" if finished.done_before else ""
        print(f"{args.output}: {count} images{before} in {IMAGES}, their masks in {MASKS}; mean opacity {opacity:.2f}.")
    if finished.skipped:
        print(f"{len(finished.skipped)} of {count + len(finished.skipped)} images cannot be read.", file=sys.stderr)
        sys.exit(SOME_FAILED)


def _draw_sheet(args: argparse.Namespace) -> None:
    """Draw the first images under every kind of clouds."""
    from mm_ovseg.data.cloudy_images import find_rasters
    from mm_ovseg.visualization.cloud_sheet import draw_cloud_sheet

    if args.output.suffix.lower() not in PICTURES:
        raise ConfigError(
            f"Give --kind to write to {args.output}, or a .png, .jpg or .pdf file for a picture of all kinds."
        )
    images = list(find_rasters(args.input, args.output).items())[:SHEET_ROWS]
    options = {"seed": args.seed, "cover": args.cover, "rgb_bands": args.rgb_bands, "rgb_range": args.rgb_range}
    draw_cloud_sheet(args.output, images, KINDS, **options)
    print(f"{args.output}: {len(images)} images under {', '.join(KINDS)} clouds; --kind chooses one.")
