r"""Plot evaluations: the IoU of every class, with models side by side, a confusion matrix, or how far to trust maps.

mm-ovseg scores output/full/inference/ddhr_sk_val/sem_seg_evaluation.json --output iou.pdf
mm-ovseg scores gsnet/sem_seg_evaluation.json ours/sem_seg_evaluation.json --titles GSNet MM-OVSeg \
    --output iou.pdf iou.png
mm-ovseg scores ours/sem_seg_evaluation.json --confusion-matrix confusion.pdf
mm-ovseg scores clear/sem_seg_evaluation.json cloudy/sem_seg_evaluation.json --titles clear cloudy \
    --reliability reliability.pdf

The files are those written by `mm-ovseg eval`. Seen classes come first, then unseen classes (underlined), then the
means. A confusion matrix needs exactly one evaluation. A reliability diagram shows how many pixels are right, by their
confidence, and beside it how many are wrong among the most confident ones: of one evaluation for seen and unseen ground
truth too, of several for all pixels.
"""

import argparse
from pathlib import Path

from mm_ovseg.cli.arguments import add_picture_arguments, check_pictures
from mm_ovseg.errors import ConfigError, DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the evaluations and the pictures."""
    parser.add_argument("evaluations", nargs="+", metavar="JSON", help="sem_seg_evaluation.json, one per model")
    parser.add_argument("--titles", nargs="+", metavar="TITLE", help="titles of the models (default: the file paths)")
    parser.add_argument(
        "--confusion-matrix", nargs="+", type=Path, default=[], metavar="FILE", help="draw the confusion matrix"
    )
    parser.add_argument(
        "--reliability", nargs="+", type=Path, default=[], metavar="FILE", help="draw the reliability diagram"
    )
    add_picture_arguments(parser, required=False)


def run(args: argparse.Namespace) -> None:
    """Read the evaluations and draw."""
    from mm_ovseg.evaluation.report_file import read_segmentation_report
    from mm_ovseg.visualization.class_scores import draw_class_scores
    from mm_ovseg.visualization.confusion_matrix import draw_confusion_matrix
    from mm_ovseg.visualization.reliability import draw_reliability

    titles = args.titles or args.evaluations
    _check_arguments(args, titles)
    reports = [read_segmentation_report(path) for path in args.evaluations]
    classes, unseen = reports[0].classes, reports[0].unseen_classes
    for path, report in zip(args.evaluations, reports, strict=True):
        if (report.classes, report.unseen_classes) != (classes, unseen):
            raise DataError(
                f"{path} has other classes or unseen classes than {args.evaluations[0]}; evaluations in one figure "
                "must have the same."
            )
        if args.reliability and report.confidence_curves is None:
            raise DataError(f"{path} is of an earlier version, without confidences; evaluate the model again.")
    scores = {title: report.scores for title, report in zip(titles, reports, strict=True)}
    for path in args.output:
        draw_class_scores(path, scores, classes, unseen, page_width=args.width, dpi=args.dpi)
    for path in args.confusion_matrix:
        draw_confusion_matrix(path, reports[0].confusion_matrix, classes, unseen, dpi=args.dpi)
    curves = {title: report.confidence_curves for title, report in zip(titles, reports, strict=True)}
    for path in args.reliability:
        draw_reliability(path, curves, page_width=args.width, dpi=args.dpi)
    print(*args.output, *args.confusion_matrix, *args.reliability, sep="\n")


def _check_arguments(args: argparse.Namespace, titles: list[str]) -> None:
    from mm_ovseg.files import check_outputs

    if len(titles) != len(args.evaluations) or len(set(titles)) < len(titles):
        raise ConfigError(
            f"{len(args.evaluations)} evaluations have the titles {', '.join(titles)}; give each one a different title."
        )
    if not (args.output or args.confusion_matrix or args.reliability):
        raise ConfigError("There is nothing to draw; give --output, --confusion-matrix, or --reliability.")
    if args.confusion_matrix and len(args.evaluations) > 1:
        raise ConfigError(f"A confusion matrix needs one evaluation, not {len(args.evaluations)}; name only one.")
    if not 2 <= args.width <= 100 or args.dpi < 1:
        raise ConfigError(
            f"--width is {args.width:g} and --dpi {args.dpi}; give 2 to 100 inches, and at least 1 pixel."
        )
    check_pictures(*args.output, *args.confusion_matrix, *args.reliability)
    outputs = {"--output": args.output, "--confusion-matrix": args.confusion_matrix, "--reliability": args.reliability}
    check_outputs(outputs, {"one of the evaluations": args.evaluations})
