r"""Tile large scenes into a dataset: RGB, SAR on the grid of RGB, and labels from a raster or from polygons.

mm-ovseg dataset tile --rgb optical.tif --sar sar.tif --labels landuse.gpkg --attribute type \
    --label-map meanings.yaml --sar-scale db --sar-range -25 0 --output datasets/my_region
mm-ovseg dataset tile --manifest scenes.csv --classes "water,forest,city" --output datasets/my_region --dry-run

Labels are a raster of class values on any grid or, with --attribute, a vector file of polygons with an attribute that
holds the class; where polygons overlap, the smaller one counts. meanings.yaml has a line 'value: class name' for each
value, or 'value: null' for values without a label. By default, attribute values are class names, and raster values are
indices into --classes. scenes.csv has the columns rgb (one file, or red;green;blue), sar, labels and, optionally, name.

Whole squares of ground, not random tiles, are held out for validation, and no training tile touches them; the split
depends only on location and --seed. Tiles are 8-bit GeoTIFFs, ready for the model; those with too little data or no
label are dropped and counted. OUTPUT also gets dataset.yaml (for DATASETS.FILES), classes.json and manifest.json
(SHA-256 of every file). If interrupted, the same command continues.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mm_ovseg.cli.arguments import SAR_SCALES, add_rgb_arguments, from_arguments
from mm_ovseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mm_ovseg.data.manifest import SceneFiles
    from mm_ovseg.data.tile.label_values import Legend
    from mm_ovseg.data.tile.settings import TileSettings

VALUES_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scenes, the meaning of their labels, the tiles, and the options of reading."""
    files = parser.add_argument_group("scenes (one, or a list)")
    files.add_argument("--rgb", nargs="+", type=Path, metavar="FILE", help="RGB; or red, green and blue files")
    files.add_argument(
        "--sar", nargs="+", type=Path, metavar="FILE", help="SAR, on any grid; or one file per polarisation"
    )
    files.add_argument("--labels", type=Path, metavar="FILE", help="a raster, or polygons with --attribute")
    files.add_argument("--manifest", type=Path, metavar="SCENES.csv", help="list of scenes, instead of the three above")
    files.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="folder of the dataset")
    files.add_argument("--name", help="of the datasets NAME_train and NAME_val (default: that of FOLDER)")
    meaning = parser.add_argument_group("labels")
    meaning.add_argument("--attribute", metavar="NAME", help="attribute of the polygons that holds the class")
    meaning.add_argument("--layer", metavar="NAME", help="layer of the vector file, if it has several")
    meaning.add_argument("--label-map", type=Path, metavar="FILE", help="'value: class name' lines, YAML or JSON")
    meaning.add_argument("--classes", metavar="NAMES", help='class names in the order of their indices, "water,road"')
    meaning.add_argument("--unseen", default="", metavar="NAMES", help="classes whose labels training ignores")
    meaning.add_argument("--background", metavar="CLASS", help="class outside all polygons (default: no label)")
    tiles = parser.add_argument_group("tiles")
    tiles.add_argument("--size", type=int, default=512, metavar="PIXELS", help="side of a tile (default: 512)")
    tiles.add_argument("--overlap", type=int, default=0, metavar="PIXELS", help="overlap of tiles (default: 0)")
    tiles.add_argument("--gsd", type=float, metavar="METRES", help="pixel size of the tiles (default: that of RGB)")
    tiles.add_argument(
        "--min-valid", type=float, default=0.5, metavar="SHARE", help="required RGB, and SAR (default: 0.5)"
    )
    tiles.add_argument(
        "--min-labelled", type=float, default=0.0, metavar="SHARE", help="required labels (default: any)"
    )
    reading = parser.add_argument_group("reading")
    add_rgb_arguments(reading)
    reading.add_argument("--sar-scale", choices=SAR_SCALES, default="8bit", help="unit of the SAR (default: 8bit)")
    reading.add_argument(
        "--sar-range",
        type=float,
        nargs="+",
        default=(-25.0, 0.0),
        metavar="DB",
        help="low and high, or a pair of them per band",
    )
    reading.add_argument("--sar-bands", type=int, nargs="+", default=(), metavar="N", help="band numbers, from 1")
    reading.add_argument("--rgb-nodata", type=float, metavar="VALUE", help="nodata, in addition to the files' own")
    reading.add_argument("--sar-nodata", type=float, metavar="VALUE", help="nodata, in addition to the files' own")
    split = parser.add_argument_group("validation")
    split.add_argument("--val-fraction", type=float, default=0.2, metavar="SHARE", help="of the squares (default: 0.2)")
    split.add_argument("--square", type=int, default=4, metavar="TILES", help="side of a square (default: 4)")
    split.add_argument("--seed", type=int, default=0, help="seed of the split (default: 0)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="check everything and write nothing")


def run(args: argparse.Namespace) -> None:
    """Tile the scenes."""
    from mm_ovseg.csv_table import fault_of_name
    from mm_ovseg.data.tile.run import check_tile_outputs, tile_outputs
    from mm_ovseg.data.tile.scenes import tile_scenes
    from mm_ovseg.data.tile.settings import TileRun, TileSettings
    from mm_ovseg.files import check_outputs
    from mm_ovseg.raster import RGBReader, SARReader
    from mm_ovseg.vocabulary import parse_class_names, select_unseen

    name = args.name or args.output.absolute().name
    if fault := fault_of_name(name):
        raise ConfigError(f"The name '{name}' {fault}; give another --name.")
    settings = from_arguments(
        TileSettings,
        args,
        ground_sampling_distance=args.gsd,
        rgb=RGBReader(bands=tuple(args.rgb_bands), value_range=tuple(args.rgb_range), nodata=args.rgb_nodata),
        sar=SARReader(
            bands=tuple(args.sar_bands),
            value_range=tuple(zip(args.sar_range[::2], args.sar_range[1::2], strict=False)),
            nodata=args.sar_nodata,
            scale=args.sar_scale,
        ),
    )
    check_outputs(tile_outputs(args.output), {"the list of scenes": [args.manifest], "the label map": [args.label_map]})
    scenes = _read_files(args)
    check_tile_outputs(args.output, scenes)  # before reading their polygons
    legend = _read_legend(args, settings, scenes)
    unseen = select_unseen(legend.classes, parse_class_names(args.unseen)) if args.unseen else ()
    tile_run = from_arguments(TileRun, args, name=name, settings=settings, legend=legend, unseen=unseen)
    split = {"square": args.square, "val_fraction": args.val_fraction, "seed": args.seed}
    print(tile_scenes(tile_run, scenes, **split).format())
    if not args.dry_run:
        dataset_file = args.output / "dataset.yaml"
        print(
            f"\nNext:\n  mm-ovseg dataset check {dataset_file}\n"
            f"  mm-ovseg train --config-file configs/mm_ovseg_vitb16_384.yaml DATASETS.FILES \"['{dataset_file}']\" "
            f"DATASETS.TRAIN \"('{name}_train',)\" DATASETS.TEST \"('{name}_val',)\""
        )


def _read_files(args: argparse.Namespace) -> list["SceneFiles"]:
    from mm_ovseg.data.manifest import SceneFiles, read_manifest

    single = (args.rgb, args.sar, args.labels)
    if args.manifest is not None:
        if any(single):
            raise ConfigError("Give --manifest, or --rgb, --sar and --labels, not both.")
        return read_manifest(args.manifest, required=("rgb", "sar", "labels"))
    if not all(single):
        raise ConfigError("Give --rgb, --sar and --labels of one scene, or --manifest with a list of scenes.")
    return [SceneFiles(args.rgb[0].stem, tuple(args.rgb), tuple(args.sar), args.labels)]


def _read_legend(args: argparse.Namespace, settings: "TileSettings", scenes: Sequence["SceneFiles"]) -> "Legend":
    """The meaning of the labels, from the command line or else from the polygons themselves."""
    from mm_ovseg.data.tile.label_values import IGNORED, Legend, legend_of_values, read_legend, value_text
    from mm_ovseg.data.tile.tile_job import open_scene
    from mm_ovseg.raster.vector import read_polygons
    from mm_ovseg.vocabulary import parse_class_names

    classes = parse_class_names(args.classes) if args.classes else None
    legend = read_legend(args.label_map, classes) if args.label_map else None
    if settings.attribute is None:
        if legend is None and classes is None:
            raise ConfigError("The meaning of the label values is unknown; give --classes or --label-map.")
        numbered = ((str(index), index) for index in range(len(classes or ())))
        legend = legend or Legend(classes, (*numbered, (str(IGNORED), IGNORED)))
        _ = legend.raster_table  # whole numbers, or an error before anything is read
        return legend
    values = Counter()
    for scene in scenes:
        with open_scene(scene, settings) as source:
            polygons = read_polygons(scene.labels, source.grid, attribute=settings.attribute, layer=settings.layer)
        values.update(polygons.values)
    if not values:
        raise DataError("No polygon of the labels overlaps a scene; check that the files belong together.")
    if legend is None and classes is not None:
        legend = Legend(classes, tuple((name, index) for index, name in enumerate(classes)))
    elif legend is None:
        legend = legend_of_values(value_text(value) for value in values)
    unknown = Counter({value_text(value): count for value, count in values.items() if legend.index_of(value) is None})
    shown = ", ".join(f"'{value}' ({count})" for value, count in unknown.most_common(VALUES_SHOWN))
    if unknown.total() == values.total():
        raise DataError(f"No polygon has a value listed in --label-map or --classes; the values are {shown}.")
    if unknown:
        print(f"warning: polygons with these values are ignored, because their meaning is unknown: {shown}.")
    return legend
