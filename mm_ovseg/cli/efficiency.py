"""Measure what the paper's efficiency table tells, for any config, and print it beside the paper's rows.

mm-ovseg efficiency --config-file configs/mm_ovseg_vitb16_384.yaml --markdown efficiency.md
mm-ovseg efficiency --config-file configs/cmu_dino_vitb8.yaml --modes train --batch-size 2
mm-ovseg efficiency --config-file configs/siblings/gsnet_vitb16_384.yaml --country DEU --json gsnet.json

Time of training and inference, parameters (all, trainable, of each module), arithmetic by fvcore and by PyTorch's
counter and why they differ, peak memory, and with --country the CO2, which needs pip install 'mm_ovseg[efficiency]'.
Weights and pairs are random. The numbers are those of this machine, and the report says which it is.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_ovseg.cli.arguments import add_config_arguments
from mm_ovseg.errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from mm_ovseg.benchmarking.emissions import EmissionsMeter

MODES = ("infer", "train")
MODELS = ("MMOVSeg", "CrossModalUnification")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, what is measured, and the files to write."""
    add_config_arguments(parser, help="a config of stage 1 or 2")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="default: both")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest here)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="pairs at once (default: 1)")
    parser.add_argument("--classes", type=int, default=5, metavar="N", help="names in the vocabulary (default: 5)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="the median of which counts (default: 5)")
    parser.add_argument("--warmup", type=int, default=1, metavar="N", help="runs before those (default: 1)")
    parser.add_argument("--country", metavar="CODE", help="measure CO2, of electricity in DEU, FRA, USA, ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write there what is printed")


def run(args: argparse.Namespace) -> None:
    """Measure, print, and write what was asked for."""
    import torch

    from mm_ovseg.benchmarking.efficiency import Efficiency
    from mm_ovseg.benchmarking.efficiency_report import format_efficiency
    from mm_ovseg.benchmarking.emissions import EmissionsMeter
    from mm_ovseg.benchmarking.machine import matrix_rate, resident_mb
    from mm_ovseg.engine import config_inputs
    from mm_ovseg.files import check_outputs, check_writable_folder, complete_file

    resident_at_start = resident_mb()
    cfg = read_config(args)
    check_outputs({"--json": [args.json], "--markdown": [args.markdown]}, config_inputs(cfg, args.config_file))
    for file in (args.json, args.markdown):
        if file is not None:
            check_writable_folder(file.parent)
    meter = None if args.country is None else EmissionsMeter(args.country)
    efficiency = Efficiency(
        cfg=cfg,
        dtype=args.dtype,
        batch_size=args.batch_size,
        classes=args.classes,
        runs=args.runs,
        warmup=args.warmup,
        resident_at_start=resident_at_start,
        meter=meter,
    )
    report = describe(args, cfg, meter)
    rate_before = matrix_rate(efficiency.device, torch.float32)
    report["parameters"] = efficiency.measure_parameters()
    if "infer" in args.modes:
        report["inference"] = efficiency.measure_inference()
    if "train" in args.modes:
        report["training"] = efficiency.measure_training()
    # Whatever else the machine had to do then, it can do this much.
    report["machine"]["gemm_gflops"] = max(rate_before, matrix_rate(efficiency.device, torch.float32))
    markdown = format_efficiency(report)
    print(markdown, end="")
    for file, text in ((args.json, json.dumps(report, indent=2) + "\n"), (args.markdown, markdown)):
        if file is not None:
            with complete_file(file) as temporary:
                temporary.write_text(text, encoding="utf-8")


def read_config(args: argparse.Namespace) -> "CfgNode":
    """Check the arguments, and read the config with what they override.

    Raises:
        ConfigError: a number is out of range, or the config is wrong or of another kind of model.
    """
    from mm_ovseg.engine import load_config

    for name in ("batch_size", "classes", "runs", "warmup"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(args, name)}; give 1 or more.")
    # No dataset is needed, and none may be asked for its class names.
    overrides = [*args.opts, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.INFERENCE_DTYPE", args.dtype]
    if args.device is not None:
        overrides += ["MODEL.DEVICE", args.device]
    cfg = load_config(args.config_file, overrides, needs_datasets=False)
    if cfg.MODEL.META_ARCHITECTURE not in MODELS:
        raise ConfigError(
            f"{args.config_file} describes {cfg.MODEL.META_ARCHITECTURE}; give a config of {' or '.join(MODELS)}."
        )
    return cfg


def describe(args: argparse.Namespace, cfg: "CfgNode", meter: "EmissionsMeter | None") -> dict[str, Any]:
    """What is measured, and on what machine."""
    import platform

    import torch

    from mm_ovseg.benchmarking.machine import device_name

    return {
        "config_file": str(args.config_file),
        "opts": args.opts,
        "model": cfg.MODEL.META_ARCHITECTURE,
        "machine": {
            "device": cfg.MODEL.DEVICE,
            "device_name": device_name(torch.device(cfg.MODEL.DEVICE)),
            "threads": torch.get_num_threads(),
            "system": platform.platform(),
            "torch_version": torch.__version__,
        },
        "dtype": args.dtype,
        "batch_size": args.batch_size,
        "classes": args.classes,
        "image_size": cfg.MODEL.CLIP.IMAGE_SIZE,
        "runs": args.runs,
        "warmup": args.warmup,
        "country": None if meter is None else meter.country,
        "codecarbon_version": None if meter is None else meter.version,
    }
