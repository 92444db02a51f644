#!/usr/bin/env python
"""The whole protocol in miniature: pre-training, both stages, all variants, several seeds; see README.md.

python projects/laptop/run_experiment.py --output output/experiment                    # under two hours on two cores
python projects/laptop/run_experiment.py --output output/look --seeds 1 --scale 0.02   # a quick trial

Every step is a command line, which --dry-run prints; finished steps are not repeated.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from laptop.experiment.protocol import Schedule, build_steps
from laptop.experiment.report import write_report
from laptop.experiment.runner import run_steps
from mm_ovseg.cli.clean_exit import clean_exit

ROOT = Path(__file__).resolve().parents[2]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/experiment"), help="output folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="random seeds (default: 1 2 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of iterations and scenes (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="parallel processes (default: 2)")
    parser.add_argument("--dry-run", action="store_true", help="print the command lines and stop")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the unfinished steps and write the report."""
    args = parse_arguments(arguments)
    output = args.output.resolve()
    steps = build_steps(output, args.seeds, Schedule().scaled(args.scale))
    if args.dry_run:
        for step in steps:
            print(f"DETECTRON2_DATASETS={shlex.quote(str(output / 'datasets'))} python {shlex.join(step.command)}")
        return
    environment = {"DETECTRON2_DATASETS": str(output / "datasets"), "HF_HUB_OFFLINE": "1"}
    run_steps(steps, folder=ROOT, logs=output / "logs", jobs=args.jobs, environment=environment, show_progress=True)
    for file in write_report(output, args.seeds):
        print(file)


if __name__ == "__main__":
    main()
