"""Measure the columns of the paper's efficiency table for any config, and print them next to the paper's rows.

mm-ovseg efficiency --config-file configs/mm_ovseg_vitb16_384.yaml --markdown efficiency.md
mm-ovseg efficiency --config-file configs/cmu_dino_vitb8.yaml --modes train --batch-size 2
mm-ovseg efficiency --config-file configs/siblings/gsnet_vitb16_384.yaml --country DEU --json gsnet.json

Measures the time of training and inference, the parameters (all, trainable, per module), the operations counted by
fvcore and by PyTorch and why they differ, the peak memory and, with --country, the CO2 emissions, which need
pip install 'mm_ovseg[efficiency]'. Weights and pairs are random. The report names the machine it was measured on.
"""

import argparse
from pathlib import Path

from mm_ovseg.cli.arguments import add_config_arguments, from_arguments

MODES = ("infer", "train")
DTYPES = ("float32", "bfloat16", "float16")
MODELS = ("MMOVSeg", "CrossModalUnification", "SegEarthOV", "EBSeg", "FGAseg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, the options of measuring, and the files to write."""
    add_config_arguments(parser, help="a config of stage 1 or 2")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="default: all that the model has")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest available)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="pairs per batch (default: 1)")
    parser.add_argument("--classes", type=int, default=5, metavar="N", help="size of the vocabulary (default: 5)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="timed runs; the median counts (default: 5)")
    parser.add_argument("--warmup", type=int, default=1, metavar="N", help="untimed runs before them (default: 1)")
    parser.add_argument("--country", metavar="CODE", help="measure CO2 for the electricity of DEU, FRA, USA, ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the printed text to this file")


def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    from mm_ovseg.efficiency import Workload, format_efficiency, load_measured_config, measure_efficiency, write_report
    from mm_ovseg.engine import config_inputs
    from mm_ovseg.files import check_outputs, check_writable_folder

    cfg = load_measured_config(args.config_file, args.opts, dtype=args.dtype, device=args.device, models=MODELS)
    workload = from_arguments(Workload, args, cfg=cfg)
    check_outputs({"--json": [args.json], "--markdown": [args.markdown]}, config_inputs(cfg, args.config_file))
    for file in (args.json, args.markdown):
        if file is not None:
            check_writable_folder(file.parent)
    report = {
        "config_file": str(args.config_file),
        "opts": args.opts,
        **measure_efficiency(workload, modes=args.modes, country=args.country),
    }
    markdown = format_efficiency(report)
    print(markdown, end="")
    write_report(report, markdown, json_file=args.json, text_file=args.markdown)
