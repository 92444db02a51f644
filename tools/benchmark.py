#!/usr/bin/env python
r"""Measure speed, memory and operations of a stage-2 model, relative to the matrix products of this machine.

python tools/benchmark.py --config-file configs/mm_ovseg_vitb16_384.yaml
python tools/benchmark.py --mode stages --classes 150 --json stages.json
python tools/benchmark.py --mode train --batch-size 2 --opts MODEL.ACTIVATION_CHECKPOINTING True
python tools/benchmark.py --mode scene --scene-size 2048
python tools/benchmark.py --mode scene --scene-size 10980 --stub 0 --keep-features
python tools/benchmark.py --dtype bfloat16 --reference tests.reference.plain

Modes: "infer", forward passes; "stages", the same with a table of stages; "train", optimiser steps on one batch;
"loader", the training loader on a synthetic dataset, compared with a training step; "scene", a synthetic scene from
files to map, with the time for opening, warping, blending and writing besides the model. Weights and pairs are random;
pairs have the size of the encoders, windows that of training crops. Inference leaves out the text encoder, which runs
once per vocabulary and is timed separately; training embeds the text in every step, and counts both passes. "infer" and
"stages" also time a first question (encoding, comparing, embedding the names) and a second one with other names for the
same pair. --stub shows what a scene costs beside the model, --keep-features what other names for the same scene cost.
--gsd turns the speed into square kilometres per hour. --reference compares with another implementation of the model,
always in float32.
"""

import argparse
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from benchmarks.modes import measure_inference, measure_loader, measure_training
from benchmarks.scenes import SceneTask, measure_scene
from benchmarks.table import add_ratios, format_report
from detectron2.config import CfgNode

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.efficiency import Workload, load_measured_config, write_report
from mm_ovseg.efficiency.machine import describe_machine, matrix_rate, resident_mb
from mm_ovseg.efficiency.workload import DTYPES
from mm_ovseg.engine import config_inputs
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import check_outputs, check_writable_folder
from mm_ovseg.raster import check_sampling_distance

ROOT = Path(__file__).resolve().parent.parent


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_config = ROOT / "configs" / "mm_ovseg_vitb16_384.yaml"
    parser.add_argument("--config-file", type=Path, default=default_config, help="default: ViT-B/16 at 384 pixels")
    parser.add_argument("--mode", choices=("infer", "train", "loader", "stages", "scene"), default="infer")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest available)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="pairs per batch (default: 1)")
    parser.add_argument("--classes", type=int, default=5, metavar="N", help="size of the vocabulary (default: 5)")
    parser.add_argument("--runs", type=int, metavar="N", help="timed runs; the median counts (default: 5; scene: 1)")
    parser.add_argument("--warmup", type=int, default=1, metavar="N", help="untimed runs before them (default: 1)")
    parser.add_argument(
        "--scene-size", type=int, default=1024, metavar="PIXELS", help="side of the scene (default: 1024)"
    )
    parser.add_argument(
        "--stub", type=float, metavar="SECONDS", help="scene: a stub that waits so long per window instead of the model"
    )
    parser.add_argument(
        "--keep-features", action="store_true", help="scene: keep features, and ask a second time with other names"
    )
    parser.add_argument(
        "--gsd", type=float, default=10.0, metavar="METRES", help="ground sampling distance (default: 10, Sentinel's)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of PyTorch (default: its choice)")
    parser.add_argument(
        "--reference", metavar="MODULE", help="compare with its plain_logits, plain_loss and plain_text"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    args = parser.parse_args(arguments)
    if args.runs is None:
        args.runs = 1 if args.mode == "scene" else 5  # a scene needs many runs of the model
    return args


def check_arguments(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Raise a ConfigError or DataError if arguments are inconsistent or the output cannot be written."""
    check_sampling_distance(args.gsd)
    for name in ("scene_size", "threads"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; give 1 or more.")
    if args.stub is not None and (args.mode != "scene" or not 0 <= args.stub < math.inf):
        raise ConfigError(f"--stub {args.stub} is for --mode scene, and takes 0 or more seconds; change one of them.")
    if args.keep_features and args.mode != "scene":
        raise ConfigError("--keep-features is for --mode scene; leave it out, or change the mode.")
    if args.reference and args.mode in ("loader", "scene"):
        raise ConfigError(f"--reference does not support --mode {args.mode}; give another --mode, or leave it out.")
    if args.reference and (cfg.MODEL.CLIP_SAR.ENABLED or 0 < cfg.MODEL.AGGREGATOR.MAX_CLASSES < args.classes):
        raise ConfigError(
            "--reference supports neither MODEL.CLIP_SAR nor more classes than MODEL.AGGREGATOR.MAX_CLASSES; "
            "leave it out, or change the config."
        )
    check_outputs({"--json": [args.json]}, config_inputs(cfg, args.config_file))
    if args.json is not None:
        check_writable_folder(args.json.parent)


def load_reference(name: str) -> ModuleType:
    """Import the module given by --reference, also from the root of the repository."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"--reference is {name}, which cannot be imported ({error}); name another module.") from error


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the results."""
    resident_at_start = resident_mb()
    args = parse_arguments(arguments)
    cfg = load_measured_config(args.config_file, args.opts, dtype=args.dtype, device=args.device, models=["MMOVSeg"])
    check_arguments(args, cfg)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    workload = Workload(
        cfg=cfg,
        dtype=args.dtype,
        batch_size=args.batch_size,
        classes=args.classes,
        runs=args.runs,
        warmup=args.warmup,
    )
    reference = load_reference(args.reference) if args.reference else None

    def measure_rates() -> dict[str, float]:
        types = dict.fromkeys(("float32", args.dtype))
        return {name: matrix_rate(workload.device, getattr(torch, name)) for name in types}

    before = measure_rates()
    if args.mode == "loader":
        measured = measure_loader(workload, resident_at_start)
    elif args.mode == "scene":
        measured = measure_scene(
            workload, resident_at_start, SceneTask(args.scene_size, args.gsd, args.stub, args.keep_features)
        )
    else:
        measure = measure_training if args.mode == "train" else measure_inference
        measured = measure(workload, resident_at_start, reference)
    after = measure_rates()
    # The higher rate, since other load on the machine can only lower it.
    rates = {name: max(before[name], after[name]) for name in before}
    report = add_ratios(
        {
            "mode": args.mode,
            "config_file": str(args.config_file),
            "opts": args.opts,
            **describe_machine(workload.device),
            "dtype": args.dtype,
            **workload.describe(),
            "ground_sampling_distance": args.gsd,
            **measured,
            "gemm_gflops": rates["float32"],
            "gemm_gflops_before": before["float32"],
            "gemm_gflops_after": after["float32"],
            "gemm_gflops_dtype": rates[args.dtype] if args.dtype != "float32" else None,
        }
    )
    text = format_report(report)
    print(text)
    write_report(report, text, json_file=args.json, text_file=None)


if __name__ == "__main__":
    main()
