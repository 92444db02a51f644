r"""Draw how a model arrives at its prediction of a class: with RGB only, with SAR only, and with both.

mm-ovseg explain --config-file configs/quickstart/demo.yaml --rgb demo/assets/pair/val/rgb_clouds/00000.tif \
    --sar demo/assets/pair/val/sar/00000.tif --classes "city,road,forest,water,farmland" --class road \
    --output explain.png
mm-ovseg explain --config-file configs/mm_ovseg_vitb16_384.yaml --rgb rgb.tif --sar sar.tif \
    --classes "water,road,city" --class water road --point 120 80 --output explain.pdf --opts MODEL.WEIGHTS model.pth

Each row has its own colour scale: CLIP's cost volume (cosine similarity of every place to the class); DINO's cost
volume; the first principal component of the fused cost; the attention of DINO's last block from the ring to all other
places (with both images, the mean of the two encoders); and the probability, with an outline of the class in the map.
The ring marks --point, by default the place with the highest probability from RGB and SAR.

"RGB only" leaves out the SAR encoders, "SAR only" those of RGB; then DINO-SAR's features take the place of CLIP's,
which usually has no SAR encoder. See docs/FIGURES.md.
"""

import argparse
import sys
from collections.abc import Sequence

from mm_ovseg.cli.arguments import (
    add_class_arguments,
    add_config_arguments,
    add_picture_arguments,
    check_pictures,
    check_positive,
)
from mm_ovseg.errors import VocabularyError
from mm_ovseg.vocabulary import find_class

NEEDED = ("INPUT.SKIP_CORRUPT", "False", "MODEL.COMPILE", "False")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the pair, the classes, and the figure."""
    add_config_arguments(parser)
    parser.add_argument("--rgb", metavar="FILE", help="the RGB image (default: none, SAR only)")
    parser.add_argument("--sar", metavar="FILE", help="SAR on the same grid (default: none, RGB only)")
    add_class_arguments(parser)
    parser.add_argument(
        "--class", dest="names", required=True, nargs="+", metavar="NAME", help="classes to draw, out of --classes"
    )
    parser.add_argument(
        "--point", type=float, nargs=2, metavar=("X", "Y"), help="place of the ring, in pixels from the top left"
    )
    add_picture_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Segment the pair three times, and draw the intermediate results."""
    from mm_ovseg.data.input_files import raster_inputs
    from mm_ovseg.engine import config_inputs, load_config
    from mm_ovseg.files import check_outputs
    from mm_ovseg.inference.explanation import explain
    from mm_ovseg.inference.explanation_figure import draw_explanations
    from mm_ovseg.inference.predictor import Predictor
    from mm_ovseg.inference.typed_classes import read_vocabulary, vocabulary_inputs

    check_positive(args, "width", "dpi")
    check_pictures(*args.output)
    vocabulary = read_vocabulary(args.classes, args.unseen)
    indices = _select_classes(args.names, vocabulary.classes)
    cfg = load_config(args.config_file, [*args.opts, *NEEDED], needs_datasets=False)
    inputs = raster_inputs({"the RGB image": [args.rgb], "the SAR image": [args.sar]})
    inputs |= {**config_inputs(cfg, args.config_file), **vocabulary_inputs(args.classes)}
    check_outputs({"--output": args.output}, inputs)
    predictor = Predictor(cfg, vocabulary.classes)
    explanations = explain(predictor, args.rgb, args.sar)
    if args.sar is not None and not predictor.model.needs_sar:
        print("This model has no SAR encoder; the SAR image is ignored.", file=sys.stderr)
    style = {"page_width": args.width, "dpi": args.dpi}
    draw_explanations(args.output, explanations, vocabulary, indices, point=args.point, **style)
    print(*args.output, sep="\n")


def _select_classes(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The indices of classes, given by name or by their first synonym."""
    indices = [find_class(name, classes) for name in names]
    if None in indices:
        unknown = names[indices.index(None)]
        raise VocabularyError(f"--class names '{unknown}', but the classes are {', '.join(classes)}.")
    if len(set(indices)) < len(indices):
        raise VocabularyError(f"--class names a class twice: {', '.join(names)}; give each once.")
    return indices
