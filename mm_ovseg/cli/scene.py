r"""Segment a large scene: from RGB, SAR or both to a map for QGIS.

mm-ovseg scene --config-file configs/mm_ovseg_vitb16_384.yaml --rgb optical.tif --sar sar.tif \
    --classes "water,road,city,burnt forest" --output map.tif --opts MODEL.WEIGHTS model.pth INPUT.SAR.SCALE db
mm-ovseg scene ... --rgb B04.jp2 B03.jp2 B02.jp2 --gsd 10 --aoi district.geojson --vector map.gpkg
mm-ovseg scene ... --rgb B04.jp2 B03.jp2 B02.jp2 --sar sar.tif --clouds SCL.jp2 --cloud-values scl
mm-ovseg scene ... --rgb S2A_MSIL2A_....SAFE --sar S1A_IW_GRDH_....zip --dem dem.tif  # docs/SENTINEL.md
mm-ovseg scene ... --stac https://stac.example.com/v1 --aoi district.geojson --date 2026-06

SAR may be on any grid; it is warped to the grid of RGB, window by window. Where one of the two has no data, the model
uses the other alone. Besides map.tif (Cloud-Optimized GeoTIFF, nodata 255), the command writes map.qml (QGIS style),
map_coverage.tif, with a style too (0: nothing, 1: RGB alone, 2: RGB and SAR, 3: SAR alone; with --clouds also 4: SAR,
and RGB under cloud, 5: RGB under cloud alone), and map.json (hectares per class and coverage, and all settings). One
name alone gives a map of where it is and where it is not ("none", 254); so do --background and --min-score with
several. --resume continues an interrupted run, with the same result. --deliver adds what catalogues, GIS and emergency
services expect: a STAC item, a raster attribute table, layers of the area of interest and of the images.

Exit status: 0, done; 2, failed (the error says what to fix); 130, stopped by Ctrl-C.
"""

import argparse
import logging
from pathlib import Path

from mm_ovseg.cli.clean_exit import stopping
from mm_ovseg.cli.scene_arguments import (
    add_scene_arguments,
    check_cloud_arguments,
    read_scene_config,
    read_scene_options,
)
from mm_ovseg.cli.stac_arguments import add_stac_arguments, find_images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files of one scene, and the options of segmentation."""
    parser.add_argument(
        "--rgb",
        nargs="+",
        metavar="FILE",
        help="RGB; red, green and blue files; or an optical product (default: SAR alone)",
    )
    parser.add_argument(
        "--sar",
        nargs="+",
        metavar="FILE",
        help="SAR, on any grid; one file per polarisation; or a radar product (default: RGB alone)",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="MAP.tif", help="the map")
    parser.add_argument("--vector", type=Path, metavar="MAP.gpkg", help="also write polygons with their areas")
    add_stac_arguments(parser)
    add_scene_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Segment one scene."""
    from detectron2.utils.logger import setup_logger

    from mm_ovseg.engine import config_inputs
    from mm_ovseg.files import check_outputs
    from mm_ovseg.inference import ScenePredictor
    from mm_ovseg.inference.scene_files import scene_inputs, scene_outputs
    from mm_ovseg.inference.scene_images import images_folder
    from mm_ovseg.inference.scene_options import check_images
    from mm_ovseg.inference.typed_classes import read_decision_options, read_vocabulary, vocabulary_inputs

    vocabulary = read_vocabulary(args.classes, args.unseen)
    decision = read_decision_options(vocabulary.classes, args.background, args.min_score)
    cfg = read_scene_config(args)
    if not args.quiet:
        setup_logger(name="mm_ovseg")
    options = read_scene_options(args, vector=args.vector)
    if not args.stac:
        check_images(args.rgb, args.sar, options)
    check_cloud_arguments(args, given=args.clouds is not None)
    inputs = {**scene_inputs(args.rgb, args.sar, options), **config_inputs(cfg, args.config_file)}
    check_outputs(scene_outputs(args.output, options), {**inputs, **vocabulary_inputs(args.classes)})
    found = find_images(args, images_folder(args.output))
    rgb, sar = (args.rgb, args.sar) if found is None else (found.rgb or None, found.sar or None)
    for warning in () if found is None else found.warnings:
        logging.getLogger("mm_ovseg").warning(warning)
    style = {"colors": vocabulary.colors, "unseen": vocabulary.unseen}
    predictor = ScenePredictor(cfg, vocabulary.classes, **decision, **style)
    with stopping(f"the same command with --resume continues {args.output}."):
        report = predictor.segment(rgb, sar, args.output, options, show_progress=not args.quiet)
    if not args.quiet:
        print(_format_areas(report))
        print(f"Wrote {args.output}.")


def _format_areas(report: dict) -> str:
    from tabulate import tabulate

    from mm_ovseg.inference.coverage import COVERAGE, COVERAGE_LEGEND, ON_SAR_ALONE

    mapped = max(sum(area["pixels"] for area in report["classes"]), 1)
    rows = [
        [
            area["name"],
            "unseen" if area["unseen"] else "",  # only --unseen tells
            area["pixels"],
            "-" if area["hectares"] is None else f"{area['hectares']:.2f}",
            f"{100 * area['pixels'] / mapped:.1f}",
        ]
        for area in report["classes"]
    ]
    headers = ["class", "", "pixels", "hectares", "%"]
    if any(report["coverage"][name]["pixels"] for name in ON_SAR_ALONE):
        headers.append("hectares on SAR alone")
        for row, area in zip(rows, report["classes"], strict=True):
            parts = [area["coverage"][name]["hectares"] for name in ON_SAR_ALONE]
            row.append("-" if None in parts else f"{sum(parts):.2f}")
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    rests_on = [
        f"{COVERAGE_LEGEND[value].name} {report['coverage'][name]['share']:.1%}"
        for name, value in COVERAGE.items()
        if report["coverage"][name]["share"]
    ]
    return f"{table}\n\nThe map rests on: {'; '.join(rests_on) or 'nothing'}."
