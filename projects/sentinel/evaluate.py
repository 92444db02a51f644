#!/usr/bin/env python
r"""Measure the small Sentinel model on real tiles, and write the tables and pictures of its card.

python projects/sentinel/evaluate.py --config-file configs/sentinel/demo.yaml --weights seed1.safetensors \
    seed2.safetensors --realdata ../shared/realdata --dataset-file projects/sentinel/datasets.yaml \
    --pairs sentinel_pairs_test --training-pairs sentinel_pairs_train --output docs/SENTINEL_MODEL.md

The text of the card stays; only what is between its markers changes. Maps and counts stay in --work, and what is there
already is not made again: remove the folder after a change of the code.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from mm_ovseg.cli.arguments import add_config_arguments, add_dataset_file_argument
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.data import register_datasets_from_file
from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.engine import load_config
from mm_ovseg.files import check_writable_folder, sha256, write_json
from mm_ovseg.inference import ScenePredictor
from sentinel.land_cover import CLASSES
from sentinel.scores.by_eye import write_pairs_to_look_at
from sentinel.scores.document import check_document, fill_document
from sentinel.scores.measure import Counts, count_constant, count_model, count_rule
from sentinel.scores.pictures import draw_pairs_to_look_at, draw_tiles, rank_tiles
from sentinel.scores.rules import Rule, apply_thresholds, fit_nearest_mean
from sentinel.scores.tables import class_table, labelled_share, tile_table
from sentinel.scores.tiles import CLOUD_SEEDS, CLOUDS, Tile, dataset_tiles, draw_clouds, terramind_tiles

TERRAMIND, PAIRS = "terramind", "pairs"
PARTS = {"setup", "pictures", *(f"{name}{kind}" for name in (TERRAMIND, PAIRS) for kind in ("", "_tiles"))}
NOT_MEASURED = "Not measured."


def fit_rules(cfg: CfgNode, dataset: str | None, work: Path) -> dict[str, Rule]:
    """The per-pixel rules by title: thresholds, and, if there are labelled training pairs, the nearest mean."""
    rules: dict[str, Rule] = {"thresholds": apply_thresholds}
    if dataset is not None:
        rgb, sar = image_readers(cfg)
        rules["nearest mean"] = fit_nearest_mean(
            (rgb.read_file(tile.rgb)[0], sar.read_file(tile.sar)[0], tile.read_truth())
            for tile in dataset_tiles(dataset, work)
        )
    return rules


def describe_setup(weights: Sequence[Path], config: str) -> str:
    """What was measured with what, as Markdown."""
    files = ", ".join(f"`{path.name}` (SHA-256 {sha256(path)[:16]}…)" for path in weights)
    low, high = (round(100 * share) for share in CLOUDS.cover)
    return (
        f"Weights, one file for each seed: {files}; config `{config}`. Asked for: {'; '.join(CLASSES)}. Clouds: "
        f"`{CLOUDS.kind}`, over {low} to {high}% of the ground, drawn {len(CLOUD_SEEDS)} times over each tile."
    )


def describe_set(tiles: Sequence[Tile], model: Sequence[Counts], baselines: dict[str, Counts], constant: str) -> str:
    """The pixels that count, and the table of scores over all tiles of a set, as Markdown."""
    pixels = sum(tile.read_truth().size for tile in tiles)
    share = labelled_share(model[0], pixels)
    table = class_table(model, baselines, constant)
    return f"{len(tiles)} tiles; {share:.1f}% of their pixels have one of the classes, the rest is ignored.\n\n{table}"


def draw_pictures(
    args: argparse.Namespace, predictor: ScenePredictor, tiles: dict[str, Tile], ranked: list[tuple[str, float]]
) -> str:
    """Draw the pictures with the maps of the first seed, and return the Markdown that shows them."""
    extremes = {"best": ranked[0], "worst": ranked[-1]}
    drawn = {title: (tiles[name], args.work / "seed_1" / name.split("/")[0]) for title, (name, _) in extremes.items()}
    of_tiles, of_pairs = (args.images / f"sentinel_model_{name}.jpg" for name in ("tiles", "by_eye"))
    draw_tiles(of_tiles, predictor.cfg, drawn)
    pairs = write_pairs_to_look_at(args.realdata, args.work / "by_eye")
    draw_pairs_to_look_at(of_pairs, predictor, pairs, args.work / "seed_1" / "by_eye")
    named = "; ".join(f"{title}: {name}, {score:.1f}% of the pixels right" for title, (name, score) in extremes.items())
    folder = os.path.relpath(args.images, args.output.parent)
    return (
        f"![The best and the worst tile, clear and under clouds]({folder}/{of_tiles.name})\n\n"
        f"By the maps from both images, clear and under clouds, mean of all seeds: {named}.\n\n"
        f"![Pairs without labels]({folder}/{of_pairs.name})\n\n"
        f"Without labels, to look at: {', '.join(pairs)}. All maps are of the first seed."
    )


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    add_dataset_file_argument(parser)
    parser.add_argument("--weights", type=Path, nargs="+", required=True, metavar="FILE", help="one for each seed")
    parser.add_argument("--realdata", type=Path, default=Path("../shared/realdata"), help="the folder of real pairs")
    parser.add_argument("--pairs", metavar="DATASET", help="held-out pairs with labels (default: none)")
    parser.add_argument("--training-pairs", metavar="DATASET", help="pairs with labels to fit a baseline on")
    parser.add_argument("--output", type=Path, default=Path("docs/SENTINEL_MODEL.md"), help="the card")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder for pictures, beside the card")
    parser.add_argument("--work", type=Path, default=Path("output/sentinel_scores"), help="folder for maps and counts")
    args = parser.parse_args(arguments)
    check_document(args.output, PARTS)
    for folder in (args.images, args.work):
        check_writable_folder(folder)
    for path in args.dataset_file:
        register_datasets_from_file(path)
    configs = [load_config(args.config_file, [*args.opts, "MODEL.WEIGHTS", str(path)]) for path in args.weights]
    sets = {TERRAMIND: terramind_tiles(args.realdata / "terramind", args.work / TERRAMIND)}
    if args.pairs is not None:
        sets[PAIRS] = dataset_tiles(args.pairs, args.work / PAIRS)
    sets = {name: draw_clouds(tiles, args.work / name, configs[0]) for name, tiles in sets.items()}
    rules = fit_rules(configs[0], args.training_pairs, args.work / "training_pairs")
    baselines, constants = {}, {}
    for name, tiles in sets.items():
        constants[name], constant = count_constant(tiles)
        baselines[name] = {
            "constant": constant,
            **{title: count_rule(rule, tiles, configs[0]) for title, rule in rules.items()},
        }
    model: dict[str, list[Counts]] = {name: [] for name in sets}
    predictors = []
    for seed, cfg in enumerate(configs, start=1):
        predictors.append(ScenePredictor(cfg, CLASSES))
        for name, tiles in sets.items():
            model[name].append(count_model(predictors[-1], tiles, args.work / f"seed_{seed}" / name))
            print(f"seed {seed}, {name}: {len(tiles)} tiles measured", flush=True)
    parts = {**dict.fromkeys(PARTS, NOT_MEASURED), "setup": describe_setup(args.weights, args.config_file)}
    for name, tiles in sets.items():
        parts[name] = describe_set(tiles, model[name], baselines[name], constants[name])
        parts[f"{name}_tiles"] = tile_table(model[name], baselines[name])
    named = {f"{name}/{tile.name}": tile for name, tiles in sets.items() for tile in tiles}
    ranked = [(f"{name}/{tile}", score) for name in sets for tile, score in rank_tiles(model[name])]
    ranked.sort(key=lambda item: -item[1])
    parts["pictures"] = draw_pictures(args, predictors[0], named, ranked)
    counts = {name: {"model": model[name], **baselines[name]} for name in sets}
    write_json(args.work / "counts.json", _plain(counts))
    fill_document(args.output, parts)
    print(f"{args.output} is up to date; the counts are in {args.work / 'counts.json'}.")


def _plain(content):
    """Content with arrays as lists and conditions as text, for JSON."""
    if isinstance(content, dict):
        return {key if isinstance(key, str) else ", ".join(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return content.tolist()


if __name__ == "__main__":
    main()
