"""Estimate the accuracy of a map and the area of each class, with confidence intervals, from labelled points.

mm-ovseg assess --map map.tif --reference points.gpkg --output accuracy.json
mm-ovseg assess --map newer.tif --strata map.tif --reference points.gpkg     # another map, by the sample of the first
mm-ovseg assess --map map.tif --reference plots.shp --field landcover        # points from elsewhere

Prints the error matrix, user's, producer's and overall accuracy, and areas, by the stratified estimators of Olofsson et
al. 2014. Points that are not a probability sample are refused: points that were moved, added or removed since mm-ovseg
sample, that are crowded in a part of the map, or, with --training, that come from where the model was trained.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the map, the points, and what is known of them."""
    parser.add_argument("--map", required=True, metavar="FILE", help="a class map of mm-ovseg scene or segment")
    parser.add_argument("--reference", type=Path, required=True, metavar="FILE", help="points with their true class")
    parser.add_argument(
        "--field", default="reference_class", metavar="NAME", help="field with that class (default: reference_class)"
    )
    parser.add_argument("--layer", metavar="NAME", help="layer of --reference, where it has several")
    parser.add_argument(
        "--design", type=Path, metavar="JSON", help="the file that mm-ovseg sample wrote (default: beside --reference)"
    )
    parser.add_argument(
        "--strata", metavar="FILE", help="raster of the strata that the points were drawn from (default: --map)"
    )
    parser.add_argument(
        "--training", nargs="+", default=[], metavar="PATH", help="images or labels of the training, or their folders"
    )
    parser.add_argument("--skip-unlabelled", action="store_true", help="leave points without a class out")
    parser.add_argument("--classes", metavar="NAMES", help="class names, for a map that does not hold them")
    parser.add_argument("--output", type=Path, metavar="JSON", help="also write everything as JSON")


def run(args: argparse.Namespace) -> None:
    """Estimate, print, and write."""
    import json

    from mm_ovseg.accuracy import assess_map
    from mm_ovseg.accuracy.report import format_report
    from mm_ovseg.accuracy.sample import design_path
    from mm_ovseg.data.input_files import raster_inputs
    from mm_ovseg.files import check_outputs, check_writable_folder, complete_file
    from mm_ovseg.vocabulary import parse_class_names

    beside = design_path(args.reference)
    design = args.design or (beside if beside != args.reference and beside.exists() else None)
    if args.output is not None:
        check_writable_folder(args.output.parent)
        rasters = raster_inputs({"the map": [args.map], "the raster of strata": [args.strata]})
        inputs = {"the file of points": [args.reference], "the design of the sample": [design]}
        check_outputs({"--output": [args.output]}, {**rasters, **inputs, "a training file": args.training})
    report = assess_map(
        args.map,
        args.reference,
        design=design,
        strata=args.strata,
        field=args.field,
        layer=args.layer,
        training=args.training,
        skip_unlabelled=args.skip_unlabelled,
        class_names=parse_class_names(args.classes) if args.classes is not None else (),
    )
    print(format_report(report))
    if args.output is not None:
        with complete_file(args.output) as temporary:
            temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nWrote {args.output}.")
