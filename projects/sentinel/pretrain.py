#!/usr/bin/env python
r"""Stage 0: train the RGB encoders of the Sentinel model from ImageNet's weights, the scenes and their captions.

python projects/sentinel/pretrain.py teacher --source ../shared/realtrain --text text --output teacher.safetensors
python projects/sentinel/pretrain.py clip --source ../shared/realtrain --text text --teacher teacher.safetensors \
    --output clip.safetensors                                  # then: MODEL.CLIP.PRETRAINED clip.safetensors
python projects/sentinel/pretrain.py dense --source ../shared/realtrain --text text --teacher teacher.safetensors \
    --pairs datasets/sentinel/pairs/train/rgb --output dense.safetensors
                                                               # then: MODEL.DENSE_ENCODER.PRETRAINED dense.safetensors

"text" is the folder that distil_text.py wrote. Needs the packages of projects/sentinel/requirements.txt.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import mm_ovseg
from mm_ovseg.checkpoint.encoder_weights import load_encoder_state_dict
from mm_ovseg.checkpoint.weights_file import check_weights_suffix, load_weights_file, write_weights_file
from mm_ovseg.cli.arguments import check_positive
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder
from mm_ovseg.raster import read_rgb
from sentinel.rgb_encoders import ImageTower, classify, read_imagenet, train_clip, train_dense, train_teacher
from sentinel.scenes import read_scenes
from sentinel.targets import read_targets
from sentinel.teacher import load_teacher

EPOCHS = 4
DENSE_ITERATIONS = 300


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", choices=["teacher", "clip", "dense"])
    parser.add_argument("--source", type=Path, required=True, help="folder with aid.zip, nwpu12.zip, rsscn7.zip")
    parser.add_argument("--teacher", type=Path, help="weights of the teacher, for clip and dense")
    parser.add_argument("--text", type=Path, required=True, help="folder of the text tower and its projection")
    parser.add_argument("--pairs", type=Path, help="folder of the pairs' RGB images, for dense")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=float, default=EPOCHS, help=f"of teacher and clip (default: {EPOCHS})")
    parser.add_argument(
        "--iterations", type=int, default=DENSE_ITERATIONS, help=f"of dense (default: {DENSE_ITERATIONS})"
    )
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    args = parser.parse_args(arguments)
    needs = {"teacher": (), "clip": ("teacher",), "dense": ("teacher", "pairs")}[args.encoder]
    if missing := [f"--{name}" for name in needs if getattr(args, name) is None]:
        parser.error(f"{args.encoder} needs {' and '.join(missing)}")
    return args


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the weights."""
    args = parse_arguments(arguments)
    check_positive(args, "epochs", "iterations")
    check_weights_suffix(args.output)
    check_writable_folder(args.output.parent)
    text = load_weights_file(args.text / f"text_seed{args.seed}.safetensors") if args.encoder == "clip" else {}
    satellite = _read_images(args.pairs) if args.encoder == "dense" else torch.empty(0)
    scenes = read_scenes(args.source)
    targets = read_targets(args.source, args.text / "projection.safetensors", load_teacher())
    settings = {"seed": args.seed}
    if args.encoder == "teacher":
        tower = train_teacher(scenes, targets, read_imagenet(), epochs=args.epochs, **settings)
        weights = tower.state_dict()
    else:
        teacher = ImageTower({}, targets.classes[0].shape[1])
        load_encoder_state_dict(teacher, load_weights_file(args.teacher), source=str(args.teacher))
        teacher.eval().requires_grad_(False)
    if args.encoder == "clip":
        tower = train_clip(teacher, scenes, targets, epochs=args.epochs, **settings)
        weights = {f"visual.{name}": tensor for name, tensor in tower.state_dict().items()}
        weights |= {f"text.{name}": tensor.float() for name, tensor in text.items()}
    if args.encoder == "dense":
        weights = train_dense(teacher, scenes, satellite, iterations=args.iterations, **settings).state_dict()
    else:
        for name, accuracy in classify(tower, scenes, targets.classes).items():
            print(f"{name}: {accuracy:.1f}% of the held-out scenes have the right class.")
    command = {"command": shlex.join(map(str, sys.argv)), "mm_ovseg_version": mm_ovseg.__version__}
    write_weights_file(args.output, weights, command)
    print(f"{args.output} is written.")


def _read_images(folder: Path) -> torch.Tensor:
    """The RGB images of a folder, of one size, as uint8 (N, 3, H, W)."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".tif", ".png"))
    if not files:
        raise DataError(f"{folder} has no images; run projects/sentinel/prepare.py first.")
    images = [read_rgb(path)[0] for path in files]
    for path, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(f"{path} and {files[0]} differ in size; give a folder of prepare.py.")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
