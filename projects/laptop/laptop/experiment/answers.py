"""What the answers of a model are worth: with each image alone, to names of what is not there, and as probabilities."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from laptop.drawn_world import SYNTHETIC_CLASSES
from laptop.experiment.protocol import ANSWER_DATASETS, ANSWERING, MODALITIES, VARIANTS
from laptop.experiment.typesetting import markdown, spread

__all__ = ["collect_answers", "format_answers"]

PARTS = ("results", "confidence", "absent_names", "single_names")  # of an evaluation's file
GROUPS = ("", "-seen", "-unseen")  # suffixes of scores
MEANS = tuple(f"mIoU{group}" for group in GROUPS)
GROUP_TITLES = ("all", "seen", "unseen")
DATASET_TITLES = dict(zip(ANSWER_DATASETS, ("under clouds", "clear"), strict=True))


def collect_answers(output: Path, seeds: Sequence[int]) -> dict:
    """Read the evaluations of the calibrated models.

    Returns:
        ``{variant: {modality: {dataset: {part of the file: {score: [one per seed]}}}}}``, in percent.
    """

    def of_seeds(run: str, dataset: str) -> dict[str, dict[str, list[float]]]:
        files = [output / f"seed_{seed}" / run / "inference" / dataset / "sem_seg_evaluation.json" for seed in seeds]
        reports = [json.loads(file.read_text()) for file in files]
        return {
            part: {score: [report[part][score] for report in reports] for score in reports[0][part]}
            for part in PARTS
            if part in reports[0]
        }

    return {
        variant: {
            modality: {dataset: of_seeds(f"{variant}_{modality}", dataset) for dataset in ANSWER_DATASETS}
            for modality in MODALITIES
        }
        for variant in ANSWERING
    }


def format_answers(answers: Mapping, constant: Mapping[str, float]) -> list[str]:
    """The tables as Markdown, means and standard deviations over seeds.

    Args:
        answers: of :func:`collect_answers`.
        constant: scores of the best map of one class everywhere.
    """
    by_group = [f"{DATASET_TITLES[dataset]}: {title}" for dataset in ANSWER_DATASETS for title in GROUP_TITLES]
    shown = [
        (f"{VARIANTS[variant].title}: {MODALITIES[modality]}", scores)
        for variant, of_variant in answers.items()
        for modality, scores in of_variant.items()
    ]
    rows = [
        [
            title,
            *(spread(scores[dataset]["results"][f"mIoU{group}"]) for dataset in ANSWER_DATASETS for group in GROUPS),
        ]
        for title, scores in shown
    ]
    rows.append(
        ["best constant map", *(f"{constant[f'mIoU{group}']:.1f}" for _ in ANSWER_DATASETS for group in GROUPS)]
    )
    parts = [f"### With each image alone\n\nmIoU.\n\n{markdown(rows, ['', *by_group])}"]

    rows = [
        [
            f"{title}, {DATASET_TITLES[dataset]}",
            *(spread(scores[dataset]["confidence"][f"ECE{kind}{group}"]) for group in GROUPS for kind in ("-raw", "")),
            spread(scores[dataset]["confidence"]["AURC"]),
            spread([100 - accuracy for accuracy in scores[dataset]["results"]["pACC"]]),
        ]
        for title, scores in shown
        for dataset in ANSWER_DATASETS
    ]
    headers = [f"{kind}: {title}" for title in GROUP_TITLES for kind in ("raw", "calibrated")]
    headers = ["expected calibration error", *headers, "AURC", "share of wrong pixels"]
    parts.append(f"### How sure\n\n{markdown(rows, headers)}")

    both = [
        (f"{VARIANTS[variant].title}, {DATASET_TITLES[dataset]}", answers[variant]["both"][dataset])
        for variant in answers
        for dataset in ANSWER_DATASETS
    ]
    kinds = [f"{kind}-{part}" for kind in ("argmax", "decision") for part in ("distractors", "absent", "none", "right")]
    rows = [[title, *(spread(scores["absent_names"][kind]) for kind in kinds)] for title, scores in both]
    parts.append(
        "### Names of what is not there\n\nShares of the pixels, with 20 distractors beside the five names.\n\n"
        + markdown(rows, ["", *(kind.replace("-", ": ", 1) for kind in kinds)])
    )

    rows = [
        [f"{title}: {how}", *(spread(scores[part][f"IoU-{name}"]) for name in SYNTHETIC_CLASSES)]
        for title, scores in both
        for how, part in (("all names, argmax", "results"), ("one name alone", "single_names"))
    ]
    parts.append(f"### One name alone\n\nIoU.\n\n{markdown(rows, ['', *SYNTHETIC_CLASSES])}")
    return parts
