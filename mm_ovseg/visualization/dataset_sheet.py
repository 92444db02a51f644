"""A contact sheet of a dataset: some of its pairs with their labels, as the model gets them."""

import os
from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from mm_ovseg.data import build_dataset_mapper
from mm_ovseg.data.raster import check_same_grid, read_label, read_raster_info
from mm_ovseg.visualization.panels import PanelRow, draw_panels

__all__ = ["draw_dataset_sheet"]

# What the picture needs whatever the config says: pairs at their own size, read here.
SHEET_SETTINGS = ("INPUT.DATASET_MAPPER_NAME", "rgb_sar_pair", "INPUT.MIN_SIZE_TEST", 0, "INPUT.SKIP_CORRUPT", False)


def draw_dataset_sheet(cfg: CfgNode, name: str, output: str | os.PathLike, num: int) -> tuple[int, int]:
    """Draw samples of a registered dataset, taken evenly over it.

    Args:
        cfg: Its INPUT says how files are read.
        name: The dataset.
        output: PNG, PDF or SVG to write.
        num: So many samples at most; 1 or more.

    Returns:
        How many were drawn, and how many the dataset has.

    Raises:
        DataError: A file cannot be used, or the picture cannot be written.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(SHEET_SETTINGS))
    samples, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
    chosen = np.linspace(0, len(samples) - 1, min(num, len(samples))).round().astype(int)
    draw_panels(
        output,
        _read_rows(cfg, [samples[index] for index in chosen], metadata),
        classes=metadata.stuff_classes,
        colors=metadata.stuff_colors,
        unseen=metadata.unseen_classes,
    )
    return len(chosen), len(samples)


def _read_rows(cfg: CfgNode, samples: Sequence[dict], metadata: Metadata) -> list[PanelRow]:
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
