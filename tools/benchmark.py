#!/usr/bin/env python
r"""Measure speed, memory and arithmetic of a stage-2 model, beside the rate of this machine's matrix products.

python tools/benchmark.py --config-file configs/mm_ovseg_vitb16_384.yaml
python tools/benchmark.py --mode stages --classes 150 --json stages.json
python tools/benchmark.py --mode train --batch-size 2 --opts MODEL.ACTIVATION_CHECKPOINTING True
python tools/benchmark.py --mode scene --scene-size 2048
python tools/benchmark.py --dtype bfloat16 --reference

Modes: "infer", forward passes; "stages", the same with a table of its stages; "train", steps of the optimiser on one
batch; "loader", the training loader on a synthetic dataset, beside a training step; "scene", a synthetic scene from
files to a map, and what opening, warping, blending and writing cost beside the model. Weights and pairs are random; a
pair has the encoders' size, a window that of the training crops. Inference holds no text encoder, which runs once a
vocabulary and is timed apart; training embeds the text at every step. "train" counts the arithmetic of both passes.
--reference takes turns with the plain formulation of tests/reference, in float32 whatever --dtype is.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from detectron2.config import CfgNode

from mm_ovseg.benchmarking.machine import device_name, matrix_rate, resident_mb
from mm_ovseg.benchmarking.measure import Benchmark
from mm_ovseg.benchmarking.report import add_ratios, format_report
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.engine import config_inputs, load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import check_outputs, check_writable_folder, complete_file

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "tests" / "reference" / "plain.py"
DTYPES = ("float32", "bfloat16", "float16")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_config = ROOT / "configs" / "mm_ovseg_vitb16_384.yaml"
    parser.add_argument("--config-file", type=Path, default=default_config, help="default: ViT-B/16 at 384 pixels")
    parser.add_argument("--mode", choices=("infer", "train", "loader", "stages", "scene"), default="infer")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest here)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="pairs at once (default: 1)")
    parser.add_argument("--classes", type=int, default=5, metavar="N", help="names in the vocabulary (default: 5)")
    parser.add_argument("--runs", type=int, metavar="N", help="the median of which counts (default: 5; of scenes 1)")
    parser.add_argument("--warmup", type=int, default=1, metavar="N", help="runs before those (default: 1)")
    parser.add_argument("--scene-size", type=int, default=1024, metavar="PIXELS", help="of a scene (default: 1024)")
    parser.add_argument("--threads", type=int, metavar="N", help="of PyTorch on the CPU (default: its own choice)")
    parser.add_argument("--reference", action="store_true", help="run the plain formulation, too, and compare")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    args = parser.parse_args(arguments)
    if args.runs is None:
        args.runs = 1 if args.mode == "scene" else 5  # a scene is many runs of the model
    return args


def read_config(args: argparse.Namespace) -> CfgNode:
    """Check the arguments, and read the config with what they override.

    Raises:
        ConfigError: they do not go together, or name what is not there.
    """
    for name in ("batch_size", "classes", "runs", "warmup", "scene_size", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; give 1 or more.")
    # No dataset is needed, and none may be asked for its class names.
    overrides = [*args.opts, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.INFERENCE_DTYPE", args.dtype]
    if args.device is not None:
        overrides += ["MODEL.DEVICE", args.device]
    cfg = load_config(args.config_file, overrides, needs_datasets=False)
    if cfg.MODEL.META_ARCHITECTURE != "MMOVSeg":
        raise ConfigError(
            f"{args.config_file} describes {cfg.MODEL.META_ARCHITECTURE}, which segments nothing; "
            "give a config of MMOVSeg."
        )
    if args.reference:
        if args.mode in ("loader", "scene"):
            raise ConfigError(f"--reference has no {args.mode} to compare with; give another --mode, or leave it out.")
        if cfg.MODEL.CLIP_SAR.ENABLED or 0 < cfg.MODEL.AGGREGATOR.MAX_CLASSES < args.classes:
            raise ConfigError(
                "--reference knows neither a MODEL.CLIP_SAR nor more classes than MODEL.AGGREGATOR.MAX_CLASSES; "
                "leave it out, or change the config."
            )
    return cfg


def load_reference() -> ModuleType:
    """Import the plain formulation, which lies among the repository's tests.

    Raises:
        ConfigError: it is not there, as in an installed package.
    """
    if not REFERENCE.is_file():
        raise ConfigError(f"--reference needs {REFERENCE}, which is not there; run it in a checkout of the repository.")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module("tests.reference.plain")


def measure_matrix_rates(device: torch.device, dtype: str) -> dict[str, float]:
    """GFLOP/s of matrix products in float32 and, if it is another one, in ``dtype``."""
    return {name: matrix_rate(device, getattr(torch, name)) for name in dict.fromkeys(("float32", dtype))}


def describe(args: argparse.Namespace, cfg: CfgNode) -> dict[str, Any]:
    """What is measured, and on what."""
    device = torch.device(cfg.MODEL.DEVICE)
    return {
        "mode": args.mode,
        "config_file": str(args.config_file),
        "opts": args.opts,
        "device": cfg.MODEL.DEVICE,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "dtype": args.dtype,
        "batch_size": args.batch_size,
        "classes": args.classes,
        "image_size": cfg.MODEL.CLIP.IMAGE_SIZE,
        "runs": args.runs,
        "warmup": args.warmup,
    }


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    resident_at_start = resident_mb()
    args = parse_arguments(arguments)
    cfg = read_config(args)
    check_outputs({"--json": [args.json]}, config_inputs(cfg, args.config_file))
    if args.json is not None:
        check_writable_folder(args.json.parent)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    device = torch.device(cfg.MODEL.DEVICE)
    benchmark = Benchmark(
        cfg=cfg,
        dtype=args.dtype,
        batch_size=args.batch_size,
        classes=args.classes,
        runs=args.runs,
        warmup=args.warmup,
        resident_at_start=resident_at_start,
        reference=load_reference() if args.reference else None,
    )
    measure = {
        "train": benchmark.measure_training,
        "loader": benchmark.measure_loader,
        "scene": lambda: benchmark.measure_scene(args.scene_size),
    }.get(args.mode, benchmark.measure_inference)

    before = measure_matrix_rates(device, args.dtype)
    measured = measure()
    after = measure_matrix_rates(device, args.dtype)
    # Whatever else the machine had to do then, it can do this much.
    rates = {name: max(before[name], after[name]) for name in before}
    report = add_ratios(
        {
            **describe(args, cfg),
            **measured,
            "gemm_gflops": rates["float32"],
            "gemm_gflops_before": before["float32"],
            "gemm_gflops_after": after["float32"],
            "gemm_gflops_dtype": rates[args.dtype] if args.dtype != "float32" else None,
        }
    )
    print(format_report(report))
    if args.json is not None:
        with complete_file(args.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
