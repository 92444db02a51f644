r"""Write the paper's tables: its numbers, those of your runs, and the differences.

mm-ovseg tables --runs output --markdown tables.md --latex tables.tex
mm-ovseg tables --runs output --checkpoints checkpoints.yaml     # evaluates them into output/evaluated first
mm-ovseg tables --tables 2 A3                                    # the paper's numbers alone

Runs are found at any depth of the folder: evaluations (inference/DATASET/sem_seg_evaluation.json, with config.yaml
beside inference/), and files of `mm-ovseg efficiency --json`. Their configs say which method, size and setting they
are; those that match no row are listed. Cells without a run stay empty. Table A1 needs no runs.

checkpoints.yaml lists what to evaluate; all but config may be left out:
- {config: configs/settings/ddhr_sk.yaml, base: configs/siblings/gsnet_vitb16_384.yaml, weights: gsnet.pth,
   opts: [TEST.PROMPT_FILES, "('names.json',)"]}
"""

import argparse
import sys
from pathlib import Path

from mm_ovseg.errors import ConfigError

NAMES = ("2", "A1", "A2", "A3", "A4", "A5")  # of mm_ovseg.tables.TABLES, whose import would slow down --help


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the runs, the checkpoints, and the files to write."""
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="holds evaluations and measurements")
    parser.add_argument("--checkpoints", type=Path, metavar="YAML", help="checkpoints to evaluate into --runs first")
    parser.add_argument("--tables", nargs="+", choices=NAMES, default=list(NAMES), help="default: all")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the printed text to this file")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="write the tables to this file for LaTeX")


def run(args: argparse.Namespace) -> None:
    """Evaluate, find, print and write."""
    from mm_ovseg.files import check_outputs, check_writable_folder, complete_file
    from mm_ovseg.tables import build_tables, evaluate_checkpoints, find_runs, format_latex, format_markdown
    from mm_ovseg.tables.runs import Runs

    if args.checkpoints is not None and args.runs is None:
        raise ConfigError("--checkpoints needs --runs, the folder that its evaluations go to.")
    outputs = {"--markdown": [args.markdown], "--latex": [args.latex]}
    check_outputs(outputs, {"the list of checkpoints": [args.checkpoints]})
    for file in (args.markdown, args.latex):
        if file is not None:
            check_writable_folder(file.parent)
    if args.checkpoints is not None:
        evaluate_checkpoints(args.checkpoints, args.runs)
    runs = Runs() if args.runs is None else find_runs(args.runs)
    check_outputs(outputs, {"one of the runs": runs.files})
    tables = build_tables(runs, args.tables)
    markdown = format_markdown(tables)
    print(markdown, end="")
    print(*runs.left_out, sep="\n", end="\n" if runs.left_out else "", file=sys.stderr)
    for file, text in ((args.markdown, markdown), (args.latex, format_latex(tables))):
        if file is not None:
            with complete_file(file) as temporary:
                temporary.write_text(text, encoding="utf-8")
