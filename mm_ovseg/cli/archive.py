r"""Segment an archive: every scene of a list, on all cores or GPUs of this machine or a Ray cluster.

mm-ovseg archive --config-file configs/mm_ovseg_vitb16_384.yaml --manifest pairs.csv --output-dir maps \
    --classes "water,road,city,burnt forest" --num-workers 4 --opts MODEL.WEIGHTS model.pth INPUT.SAR.SCALE db

pairs.csv has a header line and one scene per line. Its columns are rgb (one file, or red;green;blue) and sar, of which
one may be empty, and, optionally, name (default: the RGB or else the SAR file's name without suffix), aoi (a file of
polygons to map) and clouds (a cloud mask). Paths are relative to the folder of pairs.csv. Each scene is written to
maps/NAME.tif and the accompanying files that `mm-ovseg scene` describes, and gets a line in maps/results.csv, which is
updated after every scene.

A scene with unusable files does not stop the others. If a worker is killed, its scene is retried and continues where it
stopped. --resume continues the whole archive and skips finished maps. --address connects to a Ray cluster, whose
machines need this package and the same paths (a shared file system); if the cluster requires a token, set
RAY_AUTH_MODE=token. Needs mm_ovseg[ray].

Exit status: 0, all scenes are done; 1, some scenes failed; 2, nothing could be segmented (the error says what to fix);
130, stopped by Ctrl-C.
"""

import argparse
import functools
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mm_ovseg.cli.clean_exit import stopping
from mm_ovseg.cli.scene_arguments import (
    add_scene_arguments,
    check_cloud_arguments,
    read_scene_config,
    read_scene_options,
)
from mm_ovseg.errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

SOME_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the list of scenes, the workers, and the options of segmentation."""
    parser.add_argument("--manifest", required=True, type=Path, metavar="PAIRS.csv", help="the list of scenes")
    parser.add_argument("--output-dir", required=True, type=Path, metavar="FOLDER", help="folder for the maps")
    parser.add_argument("--num-workers", type=int, metavar="N", help="workers (default: one per GPU or machine)")
    parser.add_argument(
        "--address", metavar="PLACE", help='Ray cluster: host:port, ray://host:port or "auto" (default: start one)'
    )
    parser.add_argument(
        "--gpus-per-worker", type=float, metavar="X", help="below 1, workers share one (default: 1 with a GPU, else 0)"
    )
    parser.add_argument("--retries", type=int, default=2, metavar="N", help="if a worker is killed (default: 2)")
    parser.add_argument("--vector", action="store_true", help="also write NAME.gpkg, polygons with their areas")
    add_scene_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Segment the scenes of a manifest, with a progress bar, and print a line for each failure."""
    from detectron2.utils.logger import setup_logger
    from tqdm import tqdm

    from mm_ovseg.engine import config_inputs
    from mm_ovseg.files import check_writable_folder
    from mm_ovseg.inference import ScenePredictor
    from mm_ovseg.inference.archive import (
        RESULTS,
        SceneResult,
        check_archive_outputs,
        read_archive,
        segment_archive,
        write_results,
    )
    from mm_ovseg.inference.archive_pool import RayPool
    from mm_ovseg.inference.cloud_detection import DETECT
    from mm_ovseg.inference.scene_options import check_options
    from mm_ovseg.inference.typed_classes import read_decision_options, read_vocabulary, vocabulary_inputs

    if not args.quiet:
        setup_logger(name="mm_ovseg")
    vocabulary = read_vocabulary(args.classes, args.unseen)
    decision = read_decision_options(vocabulary.classes, args.background, args.min_score)
    cfg, gpus = place_on_gpus(read_scene_config(args), args.gpus_per_worker)
    options = read_scene_options(args)
    check_options(options, cfg)
    shared = {"--aoi": options.area, "--clouds": None if options.clouds == DETECT else options.clouds}
    for option, path in shared.items():
        if path is not None and not Path(path).exists():
            raise ConfigError(f"The file '{path}' of {option} does not exist; check its name.")
    scenes = read_archive(args.manifest)
    check_cloud_arguments(args, given=args.clouds is not None or any(scene.clouds for scene in scenes))
    inputs = {"the list of scenes": [args.manifest], **config_inputs(cfg, args.config_file)}
    inputs |= vocabulary_inputs(args.classes)
    check_archive_outputs(scenes, args.output_dir, options, polygons=args.vector, others=inputs)
    check_writable_folder(args.output_dir)
    style = {"colors": vocabulary.colors, "unseen": vocabulary.unseen}
    make_predictor = functools.partial(ScenePredictor, cfg, vocabulary.classes, **decision, **style)
    pool = RayPool(make_predictor, num_workers=args.num_workers, address=args.address, gpus_per_worker=gpus)
    table = args.output_dir / RESULTS
    results: dict[str, SceneResult | None] = dict.fromkeys(scene.name for scene in scenes)  # in the order of the list
    with (
        stopping(f"the same command with --resume continues in {args.output_dir}."),
        pool,
        tqdm(total=len(scenes), unit="scene", disable=args.quiet) as progress,
    ):
        for result in segment_archive(
            scenes, args.output_dir, options, pool, polygons=args.vector, retries=args.retries
        ):
            results[result.name] = result
            write_results(table, filter(None, results.values()))
            if result.status == "failed" and not args.quiet:
                tqdm.write(f"{result.name} failed: {result.error}", file=sys.stderr)
            progress.update()
    counts = Counter(result.status for result in results.values())
    if not args.quiet:
        listed = ", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed"))
        print(f"{listed}; see {table}.")
    if counts["failed"]:
        print(f"{counts['failed']} of {len(scenes)} scenes failed; see {table} for the reasons.", file=sys.stderr)
        sys.exit(SOME_FAILED)


def place_on_gpus(cfg: "CfgNode", gpus_per_worker: float | None) -> tuple["CfgNode", float]:
    """The config for the workers, and the number of GPUs per worker."""
    if cfg.MODEL.DEVICE.startswith("cuda:"):
        raise ConfigError(f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', but Ray assigns the workers' GPUs; set it to 'cuda'.")
    if gpus_per_worker is None:
        return cfg, float(cfg.MODEL.DEVICE == "cuda")
    if gpus_per_worker > 0:  # this machine may have none while the cluster does
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = "cuda"
        cfg.freeze()
    return cfg, gpus_per_worker
