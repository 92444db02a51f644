r"""Draw what evaluations say: the IoU of every class, models side by side, and who is taken for whom.

mm-ovseg scores output/full/inference/ddhr_sk_val/sem_seg_evaluation.json --output iou.pdf
mm-ovseg scores gsnet/sem_seg_evaluation.json ours/sem_seg_evaluation.json --titles GSNet MM-OVSeg \
    --output iou.pdf iou.png
mm-ovseg scores ours/sem_seg_evaluation.json --confusion-matrix confusion.pdf

The files are those that `mm-ovseg eval` writes. Seen classes stand first, then unseen ones, underlined, then the means.
A confusion matrix is of one evaluation.
"""

import argparse
from pathlib import Path

from mm_ovseg.cli.arguments import add_picture_arguments, check_pictures
from mm_ovseg.errors import ConfigError, DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the evaluations and the pictures."""
    parser.add_argument("evaluations", nargs="+", metavar="JSON", help="sem_seg_evaluation.json, one per model")
    parser.add_argument("--titles", nargs="+", metavar="TITLE", help="of the models (default: the files' paths)")
    parser.add_argument(
        "--confusion-matrix", nargs="+", type=Path, default=[], metavar="FILE", help="as --output, which has the bars"
    )
    add_picture_arguments(parser, required=False)


def run(args: argparse.Namespace) -> None:
    """Read the evaluations and draw."""
    from mm_ovseg.evaluation.report_file import read_segmentation_report
    from mm_ovseg.visualization.class_scores import draw_class_scores
    from mm_ovseg.visualization.confusion_matrix import draw_confusion_matrix

    titles = args.titles or args.evaluations
    _check_arguments(args, titles)
    reports = [read_segmentation_report(path) for path in args.evaluations]
    classes, unseen = reports[0].classes, reports[0].unseen_classes
    for path, report in zip(args.evaluations, reports, strict=True):
        if (report.classes, report.unseen_classes) != (classes, unseen):
            raise DataError(
                f"{path} has other classes, or other unseen ones, than {args.evaluations[0]}: what stands side by side "
                "must be comparable."
            )
    scores = {title: report.scores for title, report in zip(titles, reports, strict=True)}
    for path in args.output:
        draw_class_scores(path, scores, classes, unseen, page_width=args.width, dpi=args.dpi)
    for path in args.confusion_matrix:
        draw_confusion_matrix(path, reports[0].confusion_matrix, classes, unseen, dpi=args.dpi)
    print(*args.output, *args.confusion_matrix, sep="\n")


def _check_arguments(args: argparse.Namespace, titles: list[str]) -> None:
    from mm_ovseg.files import check_outputs

    if len(titles) != len(args.evaluations) or len(set(titles)) < len(titles):
        raise ConfigError(
            f"{len(args.evaluations)} evaluations have the titles {', '.join(titles)}; give each its own."
        )
    if not args.output and not args.confusion_matrix:
        raise ConfigError("There is nothing to draw; give --output, --confusion-matrix, or both.")
    if args.confusion_matrix and len(args.evaluations) > 1:
        raise ConfigError(f"A confusion matrix is of one evaluation, not of {len(args.evaluations)}; name one.")
    if not 2 <= args.width <= 100 or args.dpi < 1:
        raise ConfigError(
            f"--width is {args.width:g} and --dpi {args.dpi}; give 2 to 100 inches, and 1 pixel at least."
        )
    check_pictures(*args.output, *args.confusion_matrix)
    outputs = {"--output": args.output, "--confusion-matrix": args.confusion_matrix}
    check_outputs(outputs, {"one of the evaluations": args.evaluations})
