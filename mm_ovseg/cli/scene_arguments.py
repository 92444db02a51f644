"""The arguments shared by ``mm-ovseg scene`` and ``mm-ovseg archive``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mm_ovseg.cli.arguments import (
    DELIVERABLES,
    add_class_arguments,
    add_config_arguments,
    add_decision_arguments,
    add_deliver_argument,
    from_arguments,
)
from mm_ovseg.errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from mm_ovseg.data.cloud_mask import CloudValues
    from mm_ovseg.inference import SceneOptions

__all__ = ["add_scene_arguments", "check_cloud_arguments", "read_scene_config", "read_scene_options"]


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the model and of every map; each command adds its own files."""
    add_config_arguments(parser)
    add_class_arguments(parser)
    add_decision_arguments(parser)
    parser.add_argument("--rgb-bands", type=int, nargs=3, metavar="N", help="bands of red, green and blue, from 1")
    parser.add_argument("--window", type=int, metavar="PIXELS", help="side of a window (default: as training crops)")
    parser.add_argument("--overlap", type=float, default=0.25, metavar="SHARE", help="of windows (default: 0.25)")
    parser.add_argument("--gsd", type=float, metavar="METRES", help="pixel size of the map (default: the image's)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="windows per batch (default: 1)")
    parser.add_argument("--confidence", action="store_true", help="also write MAP_confidence.tif, in percent")
    parser.add_argument("--probabilities", action="store_true", help="also write MAP_probabilities.tif, all classes")
    parser.add_argument(
        "--min-area",
        type=float,
        metavar="HECTARES",
        help="merge smaller polygons into their largest neighbour; the map is unchanged",
    )
    parser.add_argument("--simplify", type=float, metavar="METRES", help="simplify the polygons with this tolerance")
    add_deliver_argument(parser, DELIVERABLES)
    parser.add_argument("--aoi", type=Path, metavar="FILE", help="map only the polygons of this vector file")
    parser.add_argument("--aoi-layer", metavar="NAME", help="layer of --aoi, if it has several")
    parser.add_argument(
        "--clouds",
        metavar="MASK",
        help="raster of where RGB is under cloud, 'detect' (needs omnicloudmask) or 'none' (default: a product's own)",
    )
    parser.add_argument("--dem", type=Path, metavar="FILE", help="elevation model, to terrain-correct radar products")
    parser.add_argument(
        "--cloud-values",
        nargs="+",
        metavar="N",
        help="values of the mask that mean cloud; 'scl' for Sentinel-2's SCL band, 'qa_pixel' for Landsat's QA_PIXEL "
        "(default: all but 0)",
    )
    parser.add_argument("--nir-band", type=int, metavar="N", help="band of near infrared in RGB, to detect clouds")
    parser.add_argument(
        "--min-covered", type=float, default=0.1, metavar="SHARE", help="minimum that SAR must cover (default: 0.1)"
    )
    parser.add_argument("--correct-shift", action="store_true", help="correct the estimated shift of SAR")
    parser.add_argument(
        "--keep-features", type=Path, metavar="DIR", help="keep the encoders' features, for other names later"
    )
    parser.add_argument(
        "--max-features", type=float, default=20, metavar="GB", help="largest size of a scene's features (default: 20)"
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument("--quiet", action="store_true", help="print no progress bar and no table")


def read_scene_config(args: argparse.Namespace) -> "CfgNode":
    """The config on the command line, with its overrides.

    Raises:
        ConfigError, DataError, VocabularyError: as of :func:`~mm_ovseg.engine.load_config`.
    """
    from mm_ovseg.engine import load_config

    overrides = [] if args.rgb_bands is None else ["INPUT.RGB.BANDS", args.rgb_bands]
    return load_config(args.config_file, [*overrides, *args.opts], needs_datasets=False)


def read_scene_options(args: argparse.Namespace, *, vector: Path | None = None) -> "SceneOptions":
    """The options on the command line; ``vector`` is the file for polygons.

    Raises:
        ConfigError: an option applies to polygons or an area that were not requested.
    """
    from mm_ovseg.inference import SceneOptions

    if args.aoi_layer is not None and args.aoi is None:
        raise ConfigError("--aoi-layer names a layer of --aoi; give that too, or leave it out.")
    if not args.vector and (args.min_area is not None or args.simplify is not None):
        raise ConfigError("--min-area and --simplify shape the polygons of --vector; give that too, or leave them out.")
    if not args.vector and "layers" in args.deliver:
        raise ConfigError("--deliver layers adds to the file of --vector; give that too, or leave it out.")
    others = {"ground_sampling_distance": args.gsd, "area": args.aoi, "area_layer": args.aoi_layer}
    others |= {"cloud_values": _read_cloud_values(args.cloud_values), "near_infrared": args.nir_band}
    return from_arguments(SceneOptions, args, vector=vector, **others)


def check_cloud_arguments(args: argparse.Namespace, *, given: bool) -> None:
    """Check that what says how to read cloud masks goes with one; ``given`` says whether there is any.

    Raises:
        ConfigError: it does not.
    """
    if not given and (args.cloud_values is not None or args.nir_band is not None):
        raise ConfigError("--cloud-values and --nir-band belong to --clouds; give that too, or leave them out.")


def _read_cloud_values(words: list[str] | None) -> "CloudValues":
    if not words:
        return None
    try:
        return words[0] if len(words) == 1 and words[0].isidentifier() else tuple(map(int, words))
    except ValueError as error:
        raise ConfigError(f"--cloud-values is {' '.join(words)}; give whole numbers, 'scl' or 'qa_pixel'.") from error
