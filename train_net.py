#!/usr/bin/env python
r"""Train either stage, resume, or evaluate.

python train_net.py --config-file configs/cmu_dino_vitb8.yaml --num-gpus 8                        # stage 1
python train_net.py --config-file configs/mm_ovseg_vitb16_384.yaml --num-gpus 8 \\
    MODEL.DINO_SAR.WEIGHTS output/cmu_dino_vitb8/model_final.pth                                  # stage 2
python train_net.py --config-file configs/mm_ovseg_vitb16_384.yaml --num-gpus 8 --resume
python train_net.py --config-file configs/mm_ovseg_vitb16_384.yaml --eval-only MODEL.WEIGHTS model.pth
python train_net.py --config-file configs/mm_ovseg_vitb16_384.yaml --unseen "water,building"       # another split
torchrun --nproc-per-node 8 train_net.py --config-file configs/mm_ovseg_vitb16_384.yaml

Ctrl-C (SIGINT) and SIGTERM end the iteration, write a checkpoint and exit with 130 and 143; a second one stops at once.
After either, and after a kill, the same command with --resume goes on as if nothing had happened.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.command_line import INTERRUPTED, clean_exit
from mm_ovseg.data.listing import listed_once
from mm_ovseg.engine import Trainer, launch, load_config, set_up_run
from mm_ovseg.engine.prompts import read_prompts
from mm_ovseg.errors import CheckpointError, ConfigError


@clean_exit
def run(args: Namespace) -> None:
    """What every process does."""
    unseen = [] if args.unseen is None else ["DATASETS.UNSEEN", args.unseen]
    cfg = load_config(args.config_file, [*unseen, *args.opts])
    set_up_run(cfg, args)
    with listed_once([*([] if args.eval_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST]):
        evaluate(cfg, args) if args.eval_only else train(cfg, args)


def evaluate(cfg: CfgNode, args: Namespace) -> None:
    """Score the weights on ``DATASETS.TEST``."""
    if not cfg.DATASETS.TEST:
        raise ConfigError("--eval-only has nothing to evaluate: DATASETS.TEST is empty.")
    read_prompts(cfg)  # an error there is better found before the model is built
    model = Trainer.build_model(cfg)
    checkpointer = StrictCheckpointer(model, cfg.OUTPUT_DIR)
    if not (cfg.MODEL.WEIGHTS or (args.resume and checkpointer.has_checkpoint())):
        raise CheckpointError(
            "--eval-only needs weights: add MODEL.WEIGHTS path/to/model.pth, or --resume where OUTPUT_DIR "
            f"({cfg.OUTPUT_DIR}) holds a checkpoint."
        )
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    Trainer.test(cfg, model)


def train(cfg: CfgNode, args: Namespace) -> None:
    """Train on ``DATASETS.TRAIN``."""
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and start the processes."""
    parser = default_argument_parser(__doc__)
    parser.add_argument(
        "--unseen",
        metavar="NAMES",
        help='classes whose labels training ignores, "water,road"; "": none (default: the dataset\'s)',
    )
    try:
        launch(run, parser.parse_args(arguments))
    except KeyboardInterrupt:  # before the first iteration, or in an evaluation
        print("Stopped; there was nothing to save.", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
