#!/usr/bin/env python
r"""Teach the small text tower to meet the embeddings of a sentence encoder, MiniLM; takes minutes.

python projects/sentinel/distil_text.py --captions ../shared/realtrain/aid_captions.csv --output text
python projects/sentinel/distil_text.py --captions ../shared/realtrain/aid_captions.csv --output text --hold-out

The folder gets the projection to the text space, projection.safetensors, which the images are trained with too; for
each seed the tower, text_seedN.safetensors, and its measures, text_seedN.json. Needs the packages of
projects/sentinel/requirements.txt.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from mm_ovseg.cli.arguments import check_positive
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import check_writable_folder
from sentinel.teacher import load_teacher
from sentinel.text_steps import ITERATIONS, make_text, read_captions

CLIP = "EfficientNet-Lite0-sentinel"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="CSV file with the columns file and caption")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="random seeds (default: 1)")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help=f"training steps (default: {ITERATIONS})")
    parser.add_argument("--hold-out", action="store_true", help="train without the words to measure; not to be shipped")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Train a tower for every seed, and print the measures."""
    args = parse_arguments(arguments)
    check_positive(args, "iterations")
    if min(args.seeds) < 0:
        raise ConfigError("--seeds needs numbers of 0 or more.")
    check_writable_folder(args.output)
    captions = [caption for captions in read_captions(args.captions).values() for caption in captions]
    teacher = load_teacher()
    measures = {}
    for seed in args.seeds:
        measures[f"seed {seed}"] = make_text(
            args.output,
            captions,
            name=CLIP,
            teacher=teacher,
            seed=seed,
            iterations=args.iterations,
            hold_out=args.hold_out,
            show_progress=True,
        )
    columns = list(measures.values())
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    print(tabulate(rows, ["", *measures], tablefmt="github", floatfmt=".3f"))


if __name__ == "__main__":
    main()
