#!/usr/bin/env python
r"""Draw what evaluations say: the IoU of every class, models side by side, and who is taken for whom.

python tools/draw_scores.py output/full/inference/ddhr_sk_val/sem_seg_evaluation.json --output iou.pdf
python tools/draw_scores.py gsnet/sem_seg_evaluation.json ours/sem_seg_evaluation.json --titles GSNet MM-OVSeg \
    --output iou.pdf iou.png
python tools/draw_scores.py ours/sem_seg_evaluation.json --confusion-matrix confusion.pdf

The files are those that train_net.py --eval-only writes. Seen classes stand first, then unseen ones, underlined, then
the means. A confusion matrix is of one evaluation.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mm_ovseg.command_line import clean_exit
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.evaluation.report_file import read_segmentation_report
from mm_ovseg.files import check_outputs, check_writable_folder
from mm_ovseg.visualization.class_scores import draw_class_scores
from mm_ovseg.visualization.confusion_matrix import draw_confusion_matrix
from mm_ovseg.visualization.picture_file import PRINT_DPI, PRINT_WIDTH, check_picture_name


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", nargs="+", metavar="JSON", help="sem_seg_evaluation.json, one a model")
    parser.add_argument("--titles", nargs="+", metavar="TITLE", help="of the models (default: the files' paths)")
    parser.add_argument(
        "--output", nargs="+", type=Path, default=[], metavar="FILE", help="bars: .png, .jpg, .pdf, .svg; one or more"
    )
    parser.add_argument("--confusion-matrix", nargs="+", type=Path, default=[], metavar="FILE", help="the same for it")
    parser.add_argument(
        "--width", type=float, default=PRINT_WIDTH, metavar="INCHES", help=f"of the bars' page (default: {PRINT_WIDTH})"
    )
    parser.add_argument("--dpi", type=int, default=PRINT_DPI, help=f"pixels an inch (default: {PRINT_DPI})")
    args = parser.parse_args(arguments)
    titles = args.titles or args.evaluations
    if len(titles) != len(args.evaluations) or len(set(titles)) < len(titles):
        raise ConfigError(
            f"{len(args.evaluations)} evaluations have the titles {', '.join(titles)}; give each its own."
        )
    args.titles = titles
    if not args.output and not args.confusion_matrix:
        raise ConfigError("There is nothing to draw; give --output, --confusion-matrix, or both.")
    if args.confusion_matrix and len(args.evaluations) > 1:
        raise ConfigError(f"A confusion matrix is of one evaluation, not of {len(args.evaluations)}; name one.")
    if not 2 <= args.width <= 100 or args.dpi < 1:
        raise ConfigError(
            f"--width is {args.width:g} and --dpi {args.dpi}; give 2 to 100 inches, and 1 pixel at least."
        )
    for path in [*args.output, *args.confusion_matrix]:
        check_picture_name(path)
        check_writable_folder(path.parent)
    check_outputs(
        {"--output": args.output, "--confusion-matrix": args.confusion_matrix},
        {"one of the evaluations": args.evaluations},
    )
    return args


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the evaluations and draw."""
    args = parse_arguments(arguments)
    reports = [read_segmentation_report(path) for path in args.evaluations]
    classes, unseen = reports[0].classes, reports[0].unseen_classes
    for path, report in zip(args.evaluations, reports, strict=True):
        if (report.classes, report.unseen_classes) != (classes, unseen):
            raise DataError(
                f"{path} has other classes, or other unseen ones, than {args.evaluations[0]}: what stands side by side "
                "must be comparable."
            )
    scores = {title: report.scores for title, report in zip(args.titles, reports, strict=True)}
    for path in args.output:
        draw_class_scores(path, scores, classes, unseen, page_width=args.width, dpi=args.dpi)
    for path in args.confusion_matrix:
        draw_confusion_matrix(path, reports[0].confusion_matrix, classes, unseen, dpi=args.dpi)
    print(*args.output, *args.confusion_matrix, sep="\n")


if __name__ == "__main__":
    main()
