"""Evaluate a model on DATASETS.TEST: IoU per class and over seen and unseen classes; for stage 1, retrieval.

mm-ovseg eval --config-file configs/mm_ovseg_vitb16_384.yaml MODEL.WEIGHTS model.pth
mm-ovseg eval --config-file configs/mm_ovseg_vitb16_384.yaml --num-gpus 8 --resume      # last checkpoint in OUTPUT_DIR
"""

import argparse

from mm_ovseg.cli import train
from mm_ovseg.cli.train import run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mm-ovseg train``, except --eval-only, which is implied."""
    train.add_arguments(parser, eval_only=True)
