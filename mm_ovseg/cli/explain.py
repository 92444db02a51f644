r"""Draw how a model comes to its answer about a class: with RGB only, with SAR only, and with both.

mm-ovseg explain --config-file configs/quickstart/demo.yaml --rgb demo/assets/pair/val/rgb_clouds/00000.tif \
    --sar demo/assets/pair/val/sar/00000.tif --classes "city,road,forest,water,farmland" --class road \
    --output explain.png
mm-ovseg explain --config-file configs/mm_ovseg_vitb16_384.yaml --rgb rgb.tif --sar sar.tif \
    --classes "water,road,city" --class water road --point 120 80 --output explain.pdf --opts MODEL.WEIGHTS model.pth

The rows, each on one colour scale: CLIP's cost volume, which is the cosine similarity of every place with the class;
DINO's; what they are fused to (its first principal component); the attention of DINO's last block, from the place in
the ring to all others (for both images the mean of the two encoders'); and the probability, with a line around what the
map gives to the class. The ring is at --point, or where the probability from RGB and SAR is highest.

RGB only leaves the SAR encoders out. SAR only leaves DINO's RGB encoder out, and shows CLIP, which has no SAR twin in
the usual model, an empty image: what SAR alone would decide. docs/FIGURES.md tells more.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mm_ovseg.cli.arguments import (
    add_class_arguments,
    add_config_arguments,
    add_picture_arguments,
    check_pictures,
    check_positive,
)
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.vocabulary import split_synonyms

if TYPE_CHECKING:
    from mm_ovseg.inference.explanation import Explanation
    from mm_ovseg.inference.vocabulary import Vocabulary
    from mm_ovseg.visualization.explanation_sheet import MapRow

NEEDED = ("INPUT.SKIP_CORRUPT", "False", "MODEL.COMPILE", "False")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the pair, the classes, and the figure."""
    add_config_arguments(parser)
    parser.add_argument("--rgb", required=True, metavar="FILE", help="the RGB image")
    parser.add_argument("--sar", metavar="FILE", help="SAR on the same grid (default: none, RGB only)")
    add_class_arguments(parser)
    parser.add_argument(
        "--class", dest="names", required=True, nargs="+", metavar="NAME", help="those of --classes to draw"
    )
    parser.add_argument(
        "--point", type=float, nargs=2, metavar=("X", "Y"), help="pixels from the left and from the top (see above)"
    )
    add_picture_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Segment the pair three times, and draw what the model computed."""
    from mm_ovseg.data.input_files import raster_inputs
    from mm_ovseg.engine import config_inputs, load_config
    from mm_ovseg.files import check_outputs
    from mm_ovseg.inference.explanation import SAR_ONLY, explain
    from mm_ovseg.inference.predictor import Predictor
    from mm_ovseg.inference.vocabulary import read_vocabulary, vocabulary_inputs

    check_positive(args, "width", "dpi")
    check_pictures(*args.output)
    vocabulary = read_vocabulary(args.classes, args.unseen)
    select_classes(args.names, vocabulary.classes)  # before the model is built
    cfg = load_config(args.config_file, [*args.opts, *NEEDED], needs_datasets=False)
    inputs = raster_inputs({"the RGB image": [args.rgb], "the SAR image": [args.sar]})
    inputs |= {**config_inputs(cfg, args.config_file), **vocabulary_inputs(args.classes)}
    check_outputs({"--output": args.output}, inputs)
    predictor = Predictor(cfg, vocabulary.classes)
    explanations = explain(predictor, args.rgb, args.sar)
    if args.sar is not None and SAR_ONLY not in explanations:
        print("This model has no SAR encoder; the SAR image plays no part.", file=sys.stderr)
    draw(args, explanations, vocabulary)


def select_classes(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The indices of classes by name, or by the first of their synonyms.

    Raises:
        VocabularyError: there is no such class, or it is given twice.
    """
    known = {split_synonyms(name)[0].casefold(): index for index, name in enumerate(classes)}
    known |= {name.casefold(): index for index, name in enumerate(classes)}
    keys = [", ".join(split_synonyms(name)).casefold() for name in names]
    if unknown := [name for name, key in zip(names, keys, strict=True) if key not in known]:
        raise VocabularyError(f"--class names '{unknown[0]}', but the classes are {', '.join(classes)}.")
    indices = [known[key] for key in keys]
    if len(set(indices)) < len(indices):
        raise VocabularyError(f"--class names a class twice: {', '.join(names)}; give each once.")
    return indices


def choose_points(
    point: Sequence[float] | None, explanations: Mapping[str, "Explanation"], indices: Sequence[int]
) -> list[tuple[float, float]]:
    """The place (x, y) in pixels to look from, of each class.

    Raises:
        DataError: the chosen place is outside the image.
    """
    import numpy as np

    scores = list(explanations.values())[-1].prediction.scores
    height, width = scores.shape[1:]
    if point is None:
        places = [np.unravel_index(scores[index].argmax(), (height, width)) for index in indices]
        return [(column + 0.5, row + 0.5) for row, column in places]
    x, y = point
    if not (0 <= x < width and 0 <= y < height):
        raise DataError(f"--point {x:g} {y:g} is outside the image of {width}x{height} pixels.")
    return [(x, y)] * len(indices)


def build_rows(
    explanations: Mapping[str, "Explanation"], indices: Sequence[int], points: Sequence[tuple[float, float]]
) -> list["MapRow"]:
    """The rows of the figure; those of encoders that the model lacks are left out."""
    from mm_ovseg.inference.explanation import first_component
    from mm_ovseg.visualization.explanation_sheet import MapRow

    shown = [(index, explanation) for index in indices for explanation in explanations.values()]
    rows = [
        MapRow(
            "CLIP cost (cosine)",
            [None if explanation.clip_cost is None else explanation.clip_cost[index] for index, explanation in shown],
            missing="CLIP sees no SAR",
        )
    ]
    if any(explanation.dino_cost is not None for explanation in explanations.values()):
        maps = [None if explanation.dino_cost is None else explanation.dino_cost[index] for index, explanation in shown]
        rows.append(MapRow("DINO cost (cosine)", maps, missing="DINO sees no SAR"))
    components, share = first_component(explanations)
    maps = [component[index] for index in indices for component in components.values()]
    rows.append(MapRow(f"fused cost (first component, {share:.0%} of variance)", maps))
    height, width = next(iter(explanations.values())).prediction.class_map.shape
    attentions = [
        explanation.attention(x / width, y / height) for x, y in points for explanation in explanations.values()
    ]
    if any(attention is not None for attention in attentions):
        most = max(float(attention.max()) for attention in attentions if attention is not None)
        rows.append(MapRow("DINO attention", attentions, limits=(0.0, most), missing="DINO sees no SAR"))
    maps = [explanation.prediction.scores[index] for index, explanation in shown]
    rows.append(MapRow("probability", maps, limits=(0.0, 1.0)))
    return rows


def draw(args: argparse.Namespace, explanations: Mapping[str, "Explanation"], vocabulary: "Vocabulary") -> None:
    """Draw every file that the command line names."""
    from mm_ovseg.inference.explanation import RGB_ONLY, SAR_ONLY
    from mm_ovseg.visualization.explanation_sheet import ClassColumns, draw_explanation_sheet

    indices = select_classes(args.names, vocabulary.classes)
    points = choose_points(args.point, explanations, indices)
    prediction = list(explanations.values())[-1].prediction
    images = {RGB_ONLY: prediction.image, SAR_ONLY: prediction.sar_image}
    columns = [
        ClassColumns(
            name=vocabulary.classes[index],
            is_unseen=vocabulary.classes[index] in vocabulary.unseen,
            point=point,
            regions=[explanation.prediction.class_map == index for explanation in explanations.values()],
        )
        for index, point in zip(indices, points, strict=True)
    ]
    rows = build_rows(explanations, indices, points)
    for path in args.output:
        draw_explanation_sheet(
            path,
            columns=list(explanations),
            images=[images.get(title) for title in explanations],
            classes=columns,
            rows=rows,
            note="Ring: the place whose attention is drawn. White line: around what the map gives to the class.",
            page_width=args.width,
            dpi=args.dpi,
        )
        print(path)
