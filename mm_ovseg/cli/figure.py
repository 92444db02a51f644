r"""Draw a figure of results: one pair per row, with RGB, SAR, ground truth and the maps of one or more models.

mm-ovseg figure --dataset-file datasets/flood.yaml --dataset flood_val \
    --model MM-OVSeg configs/quickstart/demo.yaml --output figure.pdf figure.png
mm-ovseg figure --dataset oem_thick_val --samples 12 57 --palette colour-blind --output figure.pdf \
    --model GSNet configs/siblings/gsnet_vitb16_384.yaml gsnet.pth \
    --model MM-OVSeg configs/mm_ovseg_vitb16_384.yaml model.pth
mm-ovseg figure --pairs pairs.csv --classes "water,road,city" --unseen road --output figure.pdf \
    --model "with SAR" configs/quickstart/demo.yaml --model "without" configs/quickstart/demo.yaml --rgb-only "without"

pairs.csv has the columns rgb, sar and, optionally, label (indices into --classes, 254 for none of them) and name. The
figure fills the width of a two-column page (--width), its text is 8 points high, and the names of unseen classes are
underlined. Each pair is segmented in one piece, as in evaluation; for large scenes, use `mm-ovseg scene`. With a
dataset, the class with the highest score wins, also as in evaluation; with --pairs, one class alone is mapped where it
is, and "none" elsewhere.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mm_ovseg.cli.arguments import (
    add_class_arguments,
    add_dataset_file_argument,
    add_picture_arguments,
    check_pictures,
    check_positive,
)
from mm_ovseg.errors import ConfigError, DataError, VocabularyError

if TYPE_CHECKING:
    import numpy as np
    from detectron2.config import CfgNode
    from detectron2.data import Metadata

    from mm_ovseg.visualization.panels import PanelRow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the pairs, the models, and the figure."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="a registered dataset")
    source.add_argument("--pairs", type=Path, metavar="CSV", help="a list of pairs, with --classes")
    add_dataset_file_argument(parser)
    add_class_arguments(parser, required=False)
    parser.add_argument("--samples", nargs="+", metavar="NAME", help="samples of the dataset or list, in this order")
    parser.add_argument(
        "--num", type=int, default=4, help="without --samples, number of evenly spaced pairs (default: 4)"
    )
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        nargs="+",
        required=True,
        metavar=("TITLE", "CONFIG [WEIGHTS]"),
        help="a column of the figure; may be repeated (default weights: those of the config)",
    )
    parser.add_argument("--rgb-only", nargs="+", default=[], metavar="TITLE", help="models to run without SAR")
    parser.add_argument(
        "--palette",
        choices=("default", "colour-blind"),
        default="default",
        help="the colours of the dataset or class file, or the default ones, which colour-blind readers can tell apart",
    )
    add_picture_arguments(parser)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides for all models, last: KEY VALUE ..."
    )


def run(args: argparse.Namespace) -> None:
    """Segment the pairs with every model, one model in memory at a time, and draw."""
    from mm_ovseg.data import register_datasets_from_file
    from mm_ovseg.data.input_files import sample_inputs
    from mm_ovseg.data.palette import LAND_COVER, default_colors
    from mm_ovseg.engine import config_inputs
    from mm_ovseg.files import check_outputs
    from mm_ovseg.inference.typed_classes import vocabulary_inputs
    from mm_ovseg.visualization.panels import draw_panels
    from mm_ovseg.vocabulary import unseen_classes

    check_positive(args, "num", "width", "dpi")
    check_pictures(*args.output)
    for path in args.dataset_file:
        register_datasets_from_file(path)
    configs = _read_configs(args)
    samples, metadata = _read_samples(args)
    inputs = {"the list of pairs": [args.pairs], "the dataset file": args.dataset_file}
    inputs |= {**sample_inputs(samples), **vocabulary_inputs(args.classes)}
    check_outputs({"--output": args.output}, inputs)
    for cfg, (_, config_file, *_) in zip(configs.values(), args.models, strict=True):
        check_outputs({"--output": args.output}, config_inputs(cfg, config_file))
    classes = metadata.stuff_classes
    colors = metadata.stuff_colors
    if args.palette == "colour-blind":
        if len(classes) > len(LAND_COVER):
            raise VocabularyError(
                f"There are {len(classes)} classes; colour-blind readers can distinguish {len(LAND_COVER)} colours: "
                "show fewer classes, or leave out --palette."
            )
        colors = default_colors(classes)
    # Pairs are drawn as the first model reads them.
    first = next(iter(configs.values()))
    rows = [_read_row(first, sample, metadata, has_none=args.dataset is None) for sample in samples]
    for title, cfg in configs.items():
        maps = _predict(
            title, cfg, samples, metadata, with_sar=title not in args.rgb_only, as_scored=bool(args.dataset)
        )
        pairs = zip(rows, maps, strict=True)
        rows = [replace(row, predictions={**row.predictions, title: class_map}) for row, class_map in pairs]
    unseen = unseen_classes(classes, metadata.unseen_classes, first.DATASETS.UNSEEN)
    for path in args.output:
        draw_panels(path, rows, classes=classes, colors=colors, unseen=unseen, page_width=args.width, dpi=args.dpi)
        print(path)


def _read_configs(args: argparse.Namespace) -> dict[str, "CfgNode"]:
    """Title -> config, weights included, of the models on the command line."""
    from mm_ovseg.engine import load_config
    from mm_ovseg.visualization.panels import IMAGE_TITLES

    titles = [model[0] for model in args.models]
    for title in titles:
        if title in IMAGE_TITLES or titles.count(title) > 1:
            raise ConfigError(f"There are two columns '{title}'; give each --model a different title.")
    if unknown := [title for title in args.rgb_only if title not in titles]:
        raise ConfigError(f"--rgb-only names '{unknown[0]}', but the models are {', '.join(titles)}.")
    configs = {}
    for title, *files in args.models:
        if not 1 <= len(files) <= 2:
            raise ConfigError(f"--model {title} is followed by {len(files)} values; give CONFIG, or CONFIG WEIGHTS.")
        overrides = [*args.opts, "INPUT.SKIP_CORRUPT", "False"]
        overrides += [] if args.dataset is None else ["MODEL.CALIBRATION", "none"]  # as it is scored
        overrides += ["MODEL.WEIGHTS", files[1]] if len(files) == 2 else []
        configs[title] = load_config(files[0], overrides)
    return configs


def _read_samples(args: argparse.Namespace) -> tuple[list[dict], "Metadata"]:
    """The chosen pairs, as dataset dicts, and the metadata of their dataset."""
    from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

    from mm_ovseg.data.manifest import read_pair_list
    from mm_ovseg.data.registration import check_dataset
    from mm_ovseg.inference.typed_classes import read_vocabulary
    from mm_ovseg.visualization.dataset_sheet import choose_evenly

    if args.dataset is None:
        samples, metadata = read_pair_list(args.pairs), Metadata(name=str(args.pairs))
    else:
        check_dataset(args.dataset, "--dataset")
        samples, metadata = DatasetCatalog.get(args.dataset), MetadataCatalog.get(args.dataset)
    declared = metadata.get("stuff_classes")
    if declared and args.classes is not None:
        raise VocabularyError(f"{args.dataset} declares its own classes; leave out --classes.")
    if not declared:
        if args.classes is None:
            raise VocabularyError(f"{metadata.name} names no classes; give them with --classes.")
        classes, unseen, colors = read_vocabulary(args.classes, args.unseen)
        metadata = Metadata(
            name=metadata.name,
            stuff_classes=list(classes),
            stuff_colors=list(colors),
            unseen_classes=list(unseen),
            ignore_label=255,
        )
    if args.samples is None:
        return choose_evenly(samples, args.num), metadata
    known = {str(sample["image_id"]): sample for sample in samples}
    if missing := [name for name in args.samples if name not in known]:
        raise DataError(f"{metadata.name} has no sample '{missing[0]}'; it has {', '.join(list(known)[:5])}, ...")
    return [known[name] for name in args.samples], metadata


def _read_row(cfg: "CfgNode", sample: dict, metadata: "Metadata", *, has_none: bool) -> "PanelRow":
    """A pair as a model reads it, and its label, which may hold 254 with ``has_none``."""
    from mm_ovseg.inference.pairs import read_label_values, read_pair_label
    from mm_ovseg.visualization.dataset_sheet import read_panel_row

    if not has_none:
        return read_panel_row(cfg, sample, metadata)
    images = {key: value for key, value in sample.items() if key != "sem_seg_file_name"}
    label = read_pair_label(sample, read_label_values(metadata.stuff_classes, None))
    return replace(read_panel_row(cfg, images, metadata), label=label)


def _predict(
    title: str,
    cfg: "CfgNode",
    samples: Sequence[dict],
    metadata: "Metadata",
    *,
    with_sar: bool,
    as_scored: bool,
) -> list["np.ndarray"]:
    """The class maps of one model, which is freed on return."""
    from tqdm import tqdm

    from mm_ovseg.engine.prompts import read_prompts
    from mm_ovseg.inference.predictor import Predictor

    prompts = dict(zip(cfg.DATASETS.TEST, read_prompts(cfg), strict=True))
    decision = {"background": (), "min_score": 0.0} if as_scored else {}
    predictor = Predictor(cfg, prompts.get(metadata.name) or metadata.stuff_classes, **decision)
    return [
        predictor(sample["file_name"], sample["sar_file_name"] if with_sar else None).class_map
        for sample in tqdm(samples, desc=title, unit="pair")
    ]
