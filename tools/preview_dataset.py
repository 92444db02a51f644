#!/usr/bin/env python
"""Draw samples of a registered dataset (RGB, SAR, label) as one picture, to look at before training.

python tools/preview_dataset.py synthetic_train
python tools/preview_dataset.py my_dataset --dataset-file my_datasets.yaml --num 6 --output my_dataset.png
python tools/preview_dataset.py my_dataset --dataset-file my_datasets.yaml --opts INPUT.SAR.SCALE db

Files are read as in training and evaluation: with the settings under INPUT of the config, so that what looks wrong
here is wrong there too.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from mm_ovseg.command_line import clean_exit
from mm_ovseg.data import build_dataset_mapper, register_datasets_from_file
from mm_ovseg.data.raster import check_same_grid, read_label, read_raster_info
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.visualization import PanelRow, draw_panels

ROOT = Path(__file__).resolve().parent.parent
# What the picture needs whatever the config says: pairs at their own size, read here.
PREVIEW_SETTINGS = (
    "INPUT.DATASET_MAPPER_NAME",
    "rgb_sar_pair",
    "INPUT.MIN_SIZE_TEST",
    "0",
    "INPUT.SKIP_CORRUPT",
    "False",
    "MODEL.DEVICE",
    "cpu",
)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a registered dataset")
    parser.add_argument("--dataset-file", action="append", default=[], metavar="YAML", help="declares datasets")
    parser.add_argument("--config-file", type=Path, default=ROOT / "configs" / "base.yaml", help="how files are read")
    parser.add_argument("--num", type=int, default=4, help="samples, taken evenly over the dataset (default: 4)")
    parser.add_argument("--output", type=Path, help="PNG, PDF or SVG to write (default: NAME_preview.png)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    return parser.parse_args()


def rgb_sar_datasets() -> list[str]:
    """Names of the registered RGB-SAR datasets."""
    return sorted(name for name in DatasetCatalog if MetadataCatalog.get(name).get("declaration") is not None)


def read_rows(cfg: CfgNode, samples: Sequence[dict], metadata: Metadata) -> list[PanelRow]:
    """Read samples as the model gets them, and their labels."""
    mapper = build_dataset_mapper(cfg, is_train=False)
    rows = []
    for sample in samples:
        item = mapper(sample)
        rgb, sar = (item[key].permute(1, 2, 0).numpy().round().astype(np.uint8) for key in ("image", "sar_image"))
        label = None
        if path := sample.get("sem_seg_file_name"):
            check_same_grid(read_raster_info(sample["file_name"]), read_raster_info(path))
            label = read_label(
                path,
                num_classes=len(metadata.stuff_classes),
                ignore_label=metadata.ignore_label,
                label_values=metadata.label_values,
            )
            label[label == metadata.ignore_label] = 255  # draw_panels' value for what is ignored
        rows.append(PanelRow(rgb, sar, label, name=sample["image_id"]))
    return rows


@clean_exit
def main() -> None:
    """Draw the picture."""
    arguments = parse_arguments()
    cfg = load_config(arguments.config_file, [*arguments.opts, *PREVIEW_SETTINGS])
    for path in arguments.dataset_file:
        register_datasets_from_file(path)
    if arguments.num < 1:
        raise ConfigError(f"--num is {arguments.num}; give 1 or more.")
    if arguments.name not in (known := rgb_sar_datasets()):
        raise DataError(
            f"There is no RGB-SAR dataset '{arguments.name}'; declare it with --dataset-file (see datasets/README.md), "
            f"or use one of {', '.join(known)}."
        )
    samples = DatasetCatalog.get(arguments.name)
    metadata = MetadataCatalog.get(arguments.name)
    chosen = np.linspace(0, len(samples) - 1, min(arguments.num, len(samples))).round().astype(int)
    output = arguments.output or Path(f"{arguments.name}_preview.png")
    draw_panels(
        output,
        read_rows(cfg, [samples[index] for index in chosen], metadata),
        classes=metadata.stuff_classes,
        colors=metadata.stuff_colors,
        unseen=metadata.unseen_classes,
    )
    print(f"{output}: {len(chosen)} of the {len(samples)} samples of {arguments.name}")


if __name__ == "__main__":
    main()
