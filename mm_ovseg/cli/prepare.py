r"""Make plain rasters of satellite products, for commands other than scene and archive, and to look at in QGIS.

mm-ovseg prepare --rgb S2B_MSIL2A_20230601T..._T32UPU_....SAFE --sar S1A_IW_GRDH_....SAFE --dem dem.tif --output images
mm-ovseg prepare --stac https://stac.example.com/v1 --aoi district.geojson --date 2026-06 --output images

Writes rgb.vrt and sar.vrt, and rgb.json and sar.json, which say what they are. The VRTs name the files of the
products with their scale, offset, nodata value, mask and unit; what must be computed, unpacked or fetched is written
beside them.
`mm-ovseg scene` and `mm-ovseg archive` take products themselves.

Exit status: 0, done; 2, failed (the error says what to fix).
"""

import argparse
from pathlib import Path

from mm_ovseg.cli.stac_arguments import add_stac_arguments, find_images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the products and the folder."""
    parser.add_argument("--rgb", nargs="+", metavar="PRODUCT", help="optical product, or several of one kind")
    parser.add_argument("--sar", nargs="+", metavar="PRODUCT", help="radar product, or several of one kind")
    add_stac_arguments(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="where the rasters go")
    parser.add_argument("--dem", type=Path, metavar="FILE", help="elevation model, to terrain-correct radar products")
    parser.add_argument("--aoi", type=Path, metavar="FILE", help="vector file; prepare its extent only, where possible")
    parser.add_argument("--aoi-layer", metavar="NAME", help="layer of --aoi, if it has several")


def run(args: argparse.Namespace) -> None:
    """Prepare the products."""
    from detectron2.utils.logger import setup_logger

    from mm_ovseg.errors import ConfigError, DataError
    from mm_ovseg.files import check_writable_folder
    from mm_ovseg.products import Preparation, is_product, prepare_image

    check_writable_folder(args.output)
    logger = setup_logger(name="mm_ovseg")
    found = find_images(args, args.output)
    if found is not None:
        args.rgb, args.sar = found.rgb, found.sar
        for warning in found.warnings:
            logger.warning(warning)
    given = {kind: paths for kind, paths in (("rgb", args.rgb), ("sar", args.sar)) if paths}
    if not given:
        raise ConfigError("There is nothing to prepare; give --rgb, --sar or both, or --stac.")
    for kind, paths in given.items():
        if not is_product(paths, kind):
            raise DataError(f"{paths[0]} is not a product that --{kind} knows; docs/SENTINEL.md lists those it knows.")
    preparation = Preparation(folder=args.output, dem=args.dem, area=args.aoi, area_layer=args.aoi_layer)
    for kind, paths in given.items():
        image = prepare_image(paths, kind, preparation)
        for warning in image.warnings:
            logger.warning(warning)
        clouds = "" if image.clouds is None else f", clouds in {image.clouds.path}"
        print(f"{image.paths}: {', '.join(image.about['bands'])} of {', '.join(image.about['ids'])}{clouds}")
