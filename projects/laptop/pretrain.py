#!/usr/bin/env python
r"""Train a small CLIP, or one of two small dense encoders, from scratch on the clear images of a registered dataset.

python projects/laptop/pretrain.py clip --config-file projects/laptop/configs/base.yaml --dataset laptop_clear_train \
    --output clip.safetensors                     # then: MODEL.CLIP.PRETRAINED clip.safetensors
python projects/laptop/pretrain.py dense --config-file projects/laptop/configs/base.yaml --dataset laptop_clear_train \
    --output dense.safetensors                    # then: MODEL.DENSE_ENCODER.PRETRAINED dense.safetensors
python projects/laptop/pretrain.py sam --config-file projects/laptop/configs/ebseg.yaml --dataset laptop_clear_train \
    --output sam.safetensors                      # then: MODEL.EBSEG.SAM.PRETRAINED sam.safetensors

CLIP learns contrastively from captions that list every class of a crop. The dense encoders, "dense" of the method and
"sam", which stands in for SAM's in EBSeg, learn without labels to recognise the same place in two views. The
architectures are those of the config. Needs mm_ovseg[experiment].
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import mm_ovseg
from mm_ovseg.checkpoint.weights_file import check_weights_suffix, write_weights_file
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError

CONFIG = Path(__file__).resolve().parent / "configs" / "base.yaml"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", choices=["clip", "dense", "sam"])
    parser.add_argument("--config-file", type=Path, default=CONFIG)
    parser.add_argument("--dataset", required=True, help="a registered dataset with labels, clear images")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--iterations", type=int, help="training steps (default: 600 for clip, else 500)")
    parser.add_argument("--batch-size", type=int, help="crops per step (default: 128 for clip, else 8)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="maximum (default: 0.001)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the weights."""
    args = parse_arguments(arguments)
    check_weights_suffix(args.output)
    cfg = load_config(args.config_file, args.opts)
    try:
        from laptop.pretraining import LabelledScenes, pretrain_clip, pretrain_dense_encoder
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error}; run: pip install 'mm_ovseg[experiment]'.") from error
    encoder = {"clip": cfg.MODEL.CLIP, "dense": cfg.MODEL.DENSE_ENCODER, "sam": cfg.MODEL.EBSEG.SAM}[args.encoder]
    settings = {
        "pixel_mean": torch.tensor(encoder.PIXEL_MEAN),
        "pixel_std": torch.tensor(encoder.PIXEL_STD),
        "iterations": args.iterations or (600 if args.encoder == "clip" else 500),
        "batch_size": args.batch_size or (128 if args.encoder == "clip" else 8),
        "learning_rate": args.learning_rate,
        "seed": args.seed,
        "show_progress": True,
    }
    scenes = LabelledScenes(args.dataset)
    if args.encoder == "clip":
        model, losses = pretrain_clip(encoder.NAME, scenes, **settings)
    else:
        arguments = dict(encoder.ARGUMENTS)
        size = encoder.get("IMAGE_SIZE", cfg.INPUT.CROP.SIZE[0])  # SAM's encoder takes images of any size
        model, losses = pretrain_dense_encoder(encoder.NAME, arguments, scenes, image_size=size, **settings)
    command = {"command": shlex.join(map(str, sys.argv)), "mm_ovseg_version": mm_ovseg.__version__}
    write_weights_file(args.output, model.state_dict(), command)
    last = losses[-max(1, len(losses) // 10) :]
    print(f"{args.output}: loss {sum(last) / len(last):.3f} at the end, {losses[0]:.3f} at the beginning.")


if __name__ == "__main__":
    main()
