r"""Compare two maps of one place: what changed into what, and what was flooded.

mm-ovseg change --before june.tif --after july.tif --output change.tif
mm-ovseg change --before june.tif --after july.tif --permanent occurrence.tif --permanent-values 50-100 \
    --output flood.tif --vector flood.gpkg

The maps are those of mm-ovseg scene; classes of the same name are compared. The map after is put on the grid of the map
before. Besides change.tif (Cloud-Optimized GeoTIFF; 0: unchanged, 1, 2, ...: changes, the largest first, 255: no data
in one of the maps), the command writes change.qml (QGIS style), change.csv and change.json (hectares of each change,
gains and losses of each class), and, if the maps have water, change_flood.tif, with a style too (0: dry, 1: flooded, 2:
water before and after, or permanent, 3: receded, 255: no data in one of the maps).
"""

import argparse
import re
from pathlib import Path
from typing import Any

from mm_ovseg.cli.arguments import add_deliver_argument, from_arguments
from mm_ovseg.errors import ConfigError

CHANGES_SHOWN = 20
RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
MAX_VALUES = 1000  # of a range; data of 8 bits have 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the maps, and what is known of water."""
    parser.add_argument("--before", required=True, metavar="MAP.tif", help="the earlier map")
    parser.add_argument("--after", required=True, metavar="MAP.tif", help="the later map")
    parser.add_argument("--output", required=True, type=Path, metavar="CHANGE.tif", help="the map of changes")
    parser.add_argument(
        "--vector", type=Path, metavar="CHANGE.gpkg", help="also write polygons of changes and of the flood"
    )
    parser.add_argument(
        "--water", nargs="+", default=[], metavar="NAME", help='classes that are water (default: those called "water")'
    )
    parser.add_argument("--permanent", metavar="FILE", help="raster of permanent water, which is not flooded")
    parser.add_argument(
        "--permanent-values",
        nargs="+",
        metavar="N",
        help="its values that mean permanent water, such as 80, or 50-100 (default: the only one besides 0)",
    )
    add_deliver_argument(parser, ("stac", "table"))
    parser.add_argument("--quiet", action="store_true", help="print no tables")


def run(args: argparse.Namespace) -> None:
    """Compare two maps."""
    from detectron2.utils.logger import setup_logger

    from mm_ovseg.inference.change import ChangeOptions, map_changes

    if not args.quiet:
        setup_logger(name="mm_ovseg")
    options = from_arguments(ChangeOptions, args, permanent_values=_read_values(args.permanent_values))
    report = map_changes(args.before, args.after, args.output, options)
    if not args.quiet:
        print(_format_report(report))
        print(f"\nWrote {args.output}.")


def _read_values(words: list[str] | None) -> tuple[int, ...] | None:
    if words is None:
        return None
    values: list[int] = []
    for word in words:
        match = RANGE.fullmatch(word)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high < low + MAX_VALUES:
            raise ConfigError(f"--permanent-values has '{word}'; give whole numbers, or ranges such as 50-100.")
        values += range(low, high + 1)
    return tuple(values)


def _format_report(report: dict[str, Any]) -> str:
    from tabulate import tabulate

    def table(rows: list[list[str]], headers: list[str]) -> str:
        return tabulate(rows, headers, tablefmt="github", disable_numparse=True)

    known = max(sum(entry["before"]["pixels"] for entry in report["classes"]), 1)
    parts = ("before", "after", "gain", "loss", "net")
    unit = "pixels" if any(entry["net"]["hectares"] is None for entry in report["classes"]) else "hectares"
    classes = [
        [entry["name"], *(_number(entry[part], unit, signed=part == "net") for part in parts)]
        for entry in report["classes"]
        if entry["before"]["pixels"] or entry["after"]["pixels"]
    ]
    changes = [
        [entry["from"], entry["to"], str(entry["pixels"]), _number(entry, "hectares"), _share(entry, known)]
        for entry in report["changes"]
    ]
    sections = [f"Area of the classes in {unit}:", table(classes, ["class", *parts])]
    if changes:
        sections.append(table(changes[:CHANGES_SHOWN], ["from", "to", "pixels", "hectares", "%"]))
    if len(changes) > CHANGES_SHOWN:
        sections[-1] += f"\n... and {len(changes) - CHANGES_SHOWN} smaller changes, see the CSV file."
    unknown = report["unknown"]["pixels"]
    sections.append(
        f"{_share(report['unchanged'], known)}% of the known area is unchanged; {unknown} pixels are unknown in one of "
        "the maps."
    )
    if report["flood"] is not None:
        flood = [
            [entry["name"], str(entry["pixels"]), _number(entry, "hectares"), _share(entry, known)]
            for entry in report["flood"]["classes"]
        ]
        sections.append(f"Flood (classes of water: {', '.join(report['flood']['water'])}):")
        sections.append(table(flood, ["flood", "pixels", "hectares", "%"]))
    return "\n\n".join(sections)


def _number(area: dict[str, Any], unit: str, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if area[unit] is None:
        return "-"
    return f"{area[unit]:{sign}.2f}" if unit == "hectares" else f"{area[unit]:{sign}}"


def _share(area: dict[str, Any], known: int) -> str:
    return f"{100 * area['pixels'] / known:.1f}"
