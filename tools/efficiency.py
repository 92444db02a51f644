#!/usr/bin/env python
r"""Measure the columns of the paper's efficiency table for any config, and print them beside the paper's rows.

python tools/efficiency.py --config-file configs/mm_ovseg_vitb16_384.yaml --markdown efficiency.md
python tools/efficiency.py --config-file configs/cmu_dino_vitb8.yaml --modes train --batch-size 2
python tools/efficiency.py --config-file configs/siblings/gsnet_vitb16_384.yaml --country DEU --json gsnet.json

Measured are the time of training and inference, the parameters (all, trainable, per module), the arithmetic by fvcore's
and PyTorch's counters and why they differ, the peak memory, and with --country the CO2, which needs
pip install 'mm_ovseg[efficiency]'. Weights and pairs are random. The numbers are those of this machine, which the
report names.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mm_ovseg.command_line import clean_exit
from mm_ovseg.efficiency import (
    MODES,
    Workload,
    format_efficiency,
    load_measured_config,
    measure_efficiency,
    write_report,
)
from mm_ovseg.efficiency.workload import DTYPES
from mm_ovseg.engine import config_inputs
from mm_ovseg.files import check_outputs, check_writable_folder

MODELS = ("MMOVSeg", "CrossModalUnification")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="of stage 1 or 2")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="default: both")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest here)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="pairs at once (default: 1)")
    parser.add_argument("--classes", type=int, default=5, metavar="N", help="names in the vocabulary (default: 5)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="take the median of these (default: 5)")
    parser.add_argument("--warmup", type=int, default=1, metavar="N", help="runs before those (default: 1)")
    parser.add_argument("--country", metavar="CODE", help="measure CO2, of electricity in DEU, FRA, USA, ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the printed text there")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse_arguments(arguments)
    cfg = load_measured_config(args.config_file, args.opts, dtype=args.dtype, device=args.device, models=MODELS)
    workload = Workload(
        cfg=cfg,
        dtype=args.dtype,
        batch_size=args.batch_size,
        classes=args.classes,
        runs=args.runs,
        warmup=args.warmup,
    )
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


if __name__ == "__main__":
    main()
