"""Tables and figures of the results of the laptop experiment."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np

from laptop.constant_class import constant_class_baseline
from laptop.drawn_world import SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES
from laptop.experiment.answers import collect_answers, format_answers
from laptop.experiment.protocol import BASELINES, STAGE_1, TEST_DATASETS, VARIANTS
from laptop.experiment.typesetting import markdown, spread
from mm_ovseg.files import complete_file

__all__ = ["collect_results", "write_report"]

MODELS = {**VARIANTS, **BASELINES}
CLOUDY = TEST_DATASETS[0]
DATASET_TITLES = dict(zip(TEST_DATASETS, ("under clouds", "clear", "another region, under clouds"), strict=True))
SHIFTS = range(1, len(SYNTHETIC_CLASSES))
GROUPS = ("mIoU", "mIoU-seen", "mIoU-unseen")
GROUP_TITLES = ("all", "seen", "unseen")
RECALLS = tuple(
    f"{what}_{direction}_recall@{rank}"
    for what in ("token", "image")
    for direction in ("sar_to_rgb", "rgb_to_sar")
    for rank in (1, 5)
)


def collect_results(output: Path, seeds: Sequence[int]) -> dict:
    """Read the evaluations of every seed.

    Returns:
        ``{"segmentation": {variant: {dataset: {score: [one per seed]}}}, "answers":`` those of
        :func:`~laptop.experiment.answers.collect_answers`, ``"constant": {score: value}, "shifted": {score: [one per
        seed]}, "retrieval": {stage 1: {score: [one per seed]}}}``. Scores are in percent; those of shifted names are
        means over the shifts.
    """

    def read(seed: int, run: str, file: str) -> dict:
        return json.loads((output / f"seed_{seed}" / run / "inference" / file).read_text())

    def evaluations(run: str, file: str) -> dict[str, list[float]]:
        of_seeds = [read(seed, run, file)["results"] for seed in seeds]
        return {key: [results[key] for results in of_seeds] for key in of_seeds[0]}

    pixels = np.sum(read(seeds[0], "full", f"{CLOUDY}/sem_seg_evaluation.json")["confusion_matrix"], axis=1)
    shifted = [evaluations(f"shifted_{shift}", f"{CLOUDY}/sem_seg_evaluation.json") for shift in SHIFTS]
    return {
        "seeds": list(seeds),
        "segmentation": {
            variant: {dataset: evaluations(variant, f"{dataset}/sem_seg_evaluation.json") for dataset in TEST_DATASETS}
            for variant in MODELS
        },
        "answers": collect_answers(output, seeds),
        "constant": constant_class_baseline(pixels, SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES),
        "shifted": {group: np.mean([scores[group] for scores in shifted], axis=0).tolist() for group in GROUPS},
        "retrieval": {
            name: evaluations(f"cmu_{name}", "laptop_pairs_val/retrieval_evaluation.json")
            for name in ("before", *STAGE_1)
        },
    }


def write_report(output: Path, seeds: Sequence[int]) -> list[Path]:
    """Write ``results.json``, ``tables.md`` and ``scores.png`` into ``output``.

    Returns:
        The files.
    """
    results = collect_results(output, seeds)
    files = [output / name for name in ("results.json", "tables.md", "scores.png")]
    for file, text in zip(files, (json.dumps(results, indent=1) + "\n", format_tables(results)), strict=False):
        with complete_file(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    draw_scores(files[2], results["segmentation"])
    return files


def format_tables(results: Mapping) -> str:
    """The results as Markdown: means and standard deviations over seeds."""
    parts = []
    for dataset in TEST_DATASETS:
        rows = [
            [variant.title, *(spread(results["segmentation"][name][dataset][group]) for group in GROUPS)]
            + ([f"{variant.paper:.1f}"] if dataset == CLOUDY else [])
            for name, variant in MODELS.items()
        ]
        headers = ["", *GROUP_TITLES]
        if dataset == CLOUDY:
            headers.append("paper, setting 2, all")
            rows.append(
                ["the method, asked for shifted names", *(spread(results["shifted"][group]) for group in GROUPS), ""]
            )
        parts.append(f"### {DATASET_TITLES[dataset].capitalize()}\n\n{markdown(rows, headers)}")
    per_class = [
        [
            f"{MODELS[name].title}, {DATASET_TITLES[dataset]}",
            *(spread(results["segmentation"][name][dataset][f"IoU-{label}"]) for label in SYNTHETIC_CLASSES),
        ]
        for dataset in TEST_DATASETS
        for name in ("optical_only", "full")
    ]
    parts.append(f"### IoU of each class\n\n{markdown(per_class, ['', *SYNTHETIC_CLASSES])}")
    parts += format_answers(results["answers"], results["constant"])
    retrieval = results["retrieval"]
    rows = [[name, *(spread(scores[recall]) for recall in RECALLS)] for name, scores in retrieval.items()]
    chance = retrieval["before"]
    rows.append(
        ["chance"] + [spread(chance[f"{recall.split('_')[0]}_chance@{recall.split('@')[1]}"]) for recall in RECALLS]
    )
    headers = ["", *(recall.replace("_recall", "").replace("_", " ") for recall in RECALLS)]
    parts.append(f"### Retrieval on held-out pairs\n\n{markdown(rows, headers)}")
    return "\n\n".join(parts) + "\n"


def draw_scores(path: Path, segmentation: Mapping) -> None:
    """Draw the mIoU of every variant: bars for the mean over seeds, dots for the seeds."""
    figure = matplotlib.figure.Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(TEST_DATASETS), sharey=True)
    names = list(MODELS)
    for panel, dataset in zip(axes, TEST_DATASETS, strict=True):
        for offset, (group, title) in enumerate(zip(GROUPS, GROUP_TITLES, strict=True)):
            scores = np.array([segmentation[name][dataset][group] for name in names])  # (variants, seeds)
            places = np.arange(len(names)) + 0.27 * (offset - 1)
            panel.barh(places, scores.mean(axis=1), height=0.25, label=title, color=f"C{offset}", alpha=0.75)
            panel.plot(scores, np.repeat(places[:, None], scores.shape[1], axis=1), ".", color="black", markersize=3)
        panel.set_title(DATASET_TITLES[dataset], fontsize=9)
        panel.set_xlabel("mIoU, percent", fontsize=8)
        panel.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(names)), [MODELS[name].title for name in names])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside upper right", ncols=len(GROUPS))
    with complete_file(path) as temporary:
        figure.savefig(temporary, format="png")
