"""Score a model on DATASETS.TEST: IoU of every class, of seen and of unseen ones; or retrieval for stage 1.

mm-ovseg eval --config-file configs/mm_ovseg_vitb16_384.yaml MODEL.WEIGHTS model.pth
mm-ovseg eval --config-file configs/mm_ovseg_vitb16_384.yaml --num-gpus 8 --resume      # what OUTPUT_DIR holds
"""

import argparse

from mm_ovseg.cli import train
from mm_ovseg.cli.train import run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of ``mm-ovseg train``, with --eval-only given."""
    train.add_arguments(parser)
    parser.set_defaults(eval_only=True)
