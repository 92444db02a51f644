r"""Train either stage, resume training, or evaluate.

mm-ovseg train --config-file configs/cmu_dino_vitb8.yaml --num-gpus 8              # stage 1
mm-ovseg train --config-file configs/mm_ovseg_vitb16_384.yaml --num-gpus 8 \
    MODEL.DENSE_ENCODER_SAR.WEIGHTS output/cmu_dino_vitb8/model_final.pth              # stage 2
mm-ovseg train --config-file configs/mm_ovseg_vitb16_384.yaml --num-gpus 8 --resume
mm-ovseg train --config-file configs/mm_ovseg_vitb16_384.yaml --eval-only MODEL.WEIGHTS model.pth
mm-ovseg train --config-file configs/mm_ovseg_vitb16_384.yaml --unseen "water,building"   # another split
mm-ovseg train --config-file configs/settings/ddhr_sk.yaml --base configs/siblings/gsnet_vitb16_384.yaml \
    OUTPUT_DIR output/settings/gsnet/ddhr_sk                                           # another model in a setting
torchrun --nproc-per-node 8 train_net.py --config-file configs/mm_ovseg_vitb16_384.yaml

On Ctrl-C (SIGINT) and SIGTERM, training finishes the iteration, writes a checkpoint and exits with status 130 or 143; a
second signal stops it at once. Afterwards, or after a kill, the same command with --resume continues the training.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from mm_ovseg.cli.clean_exit import forgiving_output, stopping
from mm_ovseg.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_arguments(parser: argparse.ArgumentParser, *, eval_only: bool = False) -> None:
    """Add the arguments of Detectron2's ``default_argument_parser``, which would import PyTorch, --base and --unseen.

    Args:
        parser: gets the arguments.
        eval_only: imply --eval-only instead of adding it.
    """
    port = 2**15 + 2**14 + hash(os.getuid() if sys.platform != "win32" else 1) % 2**14
    parser.add_argument("--config-file", default="", metavar="FILE", help="a config from configs/, or your own")
    parser.add_argument(
        "--base", metavar="FILE", help="a config in place of the one that _BASE_ names: another model in this setting"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    if eval_only:
        parser.set_defaults(eval_only=True)
    else:
        parser.add_argument("--eval-only", action="store_true", help="evaluate instead of training")
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="GPUs (or, with MODEL.DEVICE cpu, processes) per machine (default: 1)",
    )
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="number of machines (default: 1)")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="N", help="rank of this machine, from 0")
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{port}",
        metavar="URL",
        help="tcp://HOST:PORT, a free port of the first machine, if there are several",
    )
    parser.add_argument(
        "--unseen",
        metavar="NAMES",
        help='classes whose labels training ignores: "water,road"; "": none (default: those of the dataset)',
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides, at the end: KEY VALUE ...")


def run(args: argparse.Namespace) -> None:
    """Start the processes."""
    from mm_ovseg.engine import launch

    with stopping("there was nothing to save."):  # before the first iteration, or in an evaluation
        unseen = [] if args.unseen is None else ["DATASETS.UNSEEN", args.unseen]
        launch(run_process, argparse.Namespace(**{**vars(args), "opts": [*unseen, *args.opts]}))


@forgiving_output()
def run_process(cfg: "CfgNode", args: argparse.Namespace) -> None:
    """Train or evaluate, in every process."""
    from mm_ovseg.data.listing import listed_once
    from mm_ovseg.engine import Trainer, set_up_run

    set_up_run(cfg, args)
    with listed_once([*([] if args.eval_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST]):
        if args.eval_only:
            _evaluate(cfg, args.resume)
        else:
            trainer = Trainer(cfg)
            trainer.resume_or_load(resume=args.resume)
            trainer.train()


def _evaluate(cfg: "CfgNode", resume: bool) -> None:
    from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
    from mm_ovseg.engine import Trainer
    from mm_ovseg.engine.calibration import load_calibration
    from mm_ovseg.engine.dataset_checks import check_datasets
    from mm_ovseg.modeling.meta_arch.segmenter import needed_weights

    if not cfg.DATASETS.TEST:
        raise ConfigError("--eval-only has nothing to evaluate: DATASETS.TEST is empty.")
    check_datasets(cfg, training=False)
    model = Trainer.build_model(cfg)
    checkpointer = StrictCheckpointer(model, cfg.OUTPUT_DIR)
    key, weights = needed_weights(cfg)
    if not (weights or (resume and checkpointer.has_checkpoint())):
        example = "path/to/model.pth" if key == "MODEL.WEIGHTS" else "openai"
        raise CheckpointError(
            f"--eval-only needs weights: add {key} {example}, or --resume if OUTPUT_DIR ({cfg.OUTPUT_DIR}) holds a "
            "checkpoint."
        )
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    resumed = checkpointer.get_checkpoint_file() if resume and checkpointer.has_checkpoint() else None
    Trainer.test(cfg, model, calibration=load_calibration(cfg, resumed))
