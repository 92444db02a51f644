r"""Draw a random sample of a map's pixels for people to label, so that mm-ovseg assess can measure its accuracy.

mm-ovseg sample --map map.tif --n 500 --output points.gpkg
mm-ovseg sample --map map.tif --strata districts.tif --n 500 --output points.gpkg

Points of each class are drawn at random, in proportion to its pixels but at least --min-per-stratum. Fill in
reference_class in the GeoPackage (in QGIS, say) with what is at each point on the day of the images, from images better
than those that the map was made from: a class of the map, or "none". The points do not show the map's class, which must
not influence the labels; points.json, which assess needs, does.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the map, the strata, and the size of the sample."""
    parser.add_argument("--map", required=True, metavar="FILE", help="a class map of mm-ovseg scene or segment")
    parser.add_argument(
        "--strata", metavar="FILE", help="uint8 raster of strata on the map's grid (default: the map's classes)"
    )
    parser.add_argument("--n", type=int, required=True, metavar="POINTS", help="number of points")
    parser.add_argument(
        "--min-per-stratum", type=int, default=50, metavar="POINTS", help="for rare strata (default: 50)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same points (default: 0)")
    parser.add_argument("--classes", metavar="NAMES", help="class names, for a map that does not hold them")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="GeoPackage of points; a .json is written beside it"
    )


def run(args: argparse.Namespace) -> None:
    """Draw and write the sample."""
    from tabulate import tabulate

    from mm_ovseg.accuracy import sample_map
    from mm_ovseg.accuracy.sample import design_path
    from mm_ovseg.errors import DataError
    from mm_ovseg.files import check_writable_folder
    from mm_ovseg.raster.vector_drivers import check_name
    from mm_ovseg.vocabulary import is_text, parse_class_names

    if args.output.suffix.lower() != ".gpkg" or not is_text(str(args.output)):
        raise DataError(f"{str(args.output)!r} must be a GeoPackage; give a name that ends in .gpkg.")
    check_writable_folder(args.output.parent)
    check_name(args.output)
    report = sample_map(
        args.map,
        args.output,
        strata=args.strata,
        num_points=args.n,
        min_per_stratum=args.min_per_stratum,
        seed=args.seed,
        class_names=parse_class_names(args.classes) if args.classes is not None else (),
    )
    rows = [[entry["name"], entry["pixels"], entry["points"]] for entry in report["strata"]]
    print(tabulate(rows, ["stratum", "pixels", "points"], tablefmt="github", disable_numparse=True))
    print(f"\nWrote {args.output} and {design_path(args.output)}.")
