#!/usr/bin/env python
"""The whole protocol in a few minutes on two CPU cores: data, both training stages, evaluation, a map.

python projects/laptop/quickstart.py --output output/quickstart

It runs the command lines of a user and prints each of them. The model starts from random weights, so it only learns the
seen classes: the point is to show every part at work.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from laptop.constant_class import constant_class_baseline
from laptop.drawn_world import SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.evaluation import format_results_table
from mm_ovseg.evaluation.report_file import read_segmentation_report

ROOT = Path(__file__).resolve().parents[2]
DATASETS = ("--dataset-file", "projects/laptop/datasets.yaml")


def run(datasets: Path, *command: str | Path) -> None:
    """Print a Python command line and run it; exit with its status if it fails."""
    words = [str(word) for word in command]
    print(f"\n$ DETECTRON2_DATASETS={shlex.quote(str(datasets))} python {shlex.join(words)}", flush=True)
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets)}
    status = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment).returncode
    if status:
        sys.exit(status)


def report(evaluation_file: Path) -> None:
    """Print the seen/unseen table and the score of the best constant map."""
    evaluation = read_segmentation_report(evaluation_file)
    classes, unseen, scores = evaluation.classes, evaluation.unseen_classes, evaluation.scores
    baseline = constant_class_baseline(evaluation.confusion_matrix.sum(axis=1), classes, unseen)
    print("\nOn cloudy validation scenes, in percent:\n")
    print(format_results_table(scores, classes, unseen))
    print(f"\nSeen classes: mIoU {scores['mIoU-seen']:.1f}; the best constant map reaches {baseline['mIoU-seen']:.1f}.")
    print("Unseen classes need pretrained CLIP weights; this model started from random ones.")


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the data, train, evaluate, segment, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/quickstart"), help="output folder")
    output = parser.parse_args(arguments).output.resolve()
    start = time.perf_counter()
    datasets = output / "datasets"
    config = "projects/laptop/configs/quickstart_mm_ovseg.yaml"
    stage_1, stage_2, maps = output / "cmu", output / "mm_ovseg", output / "maps"

    run(datasets, "projects/laptop/write_scenes.py", datasets / "synthetic")
    picture = output / "dataset.png"
    run(datasets, "-m", "mm_ovseg", "dataset", "preview", "synthetic_val", *DATASETS, "--output", picture)
    run(datasets, "train_net.py", "--config-file", "projects/laptop/configs/quickstart_cmu.yaml", "OUTPUT_DIR", stage_1)
    sar_weights = ("MODEL.DENSE_ENCODER_SAR.WEIGHTS", stage_1 / "model_final.pth")
    run(datasets, "train_net.py", "--config-file", config, "OUTPUT_DIR", stage_2, *sar_weights)
    pair = {kind: datasets / "synthetic" / "val" / kind / "00000.png" for kind in ("rgb_clouds", "sar", "labels")}
    run(
        datasets,
        "demo/demo.py",
        *("--config-file", config, "--input", pair["rgb_clouds"], "--sar", pair["sar"], "--label", pair["labels"]),
        *("--classes", ",".join(SYNTHETIC_CLASSES), "--unseen", ",".join(SYNTHETIC_UNSEEN_CLASSES)),
        *("--output", maps, "--opts", "MODEL.WEIGHTS", stage_2 / "model_final.pth"),
    )
    inference = stage_2 / "inference" / "synthetic_val"
    report(inference / "sem_seg_evaluation.json")
    print("\nFigures:")
    for picture in (output / "dataset.png", maps / "00000_figure.png", inference / "confusion_matrix.png"):
        print(f"  {picture}")
    print(f"Total time: {(time.perf_counter() - start) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
