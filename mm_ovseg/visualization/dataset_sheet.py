"""A contact sheet of a dataset: some of its pairs with their labels, as the model sees them."""

import os
from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from mm_ovseg.data import build_dataset_mapper
from mm_ovseg.data.catalog import label_scheme
from mm_ovseg.data.input_files import sample_inputs
from mm_ovseg.files import check_outputs
from mm_ovseg.raster import RasterSource, read_label
from mm_ovseg.visualization.panels import PanelRow, draw_panels

__all__ = ["choose_evenly", "draw_dataset_sheet", "read_panel_row"]

# Whatever the config says, pairs are drawn in their original size, and unreadable ones are errors.
SHEET_SETTINGS = (
    *("INPUT.DATASET_MAPPER_NAME", "rgb_sar_pair", "INPUT.MIN_SIZE_TEST", 0),
    *("INPUT.RELEASED_GEOMETRY", False, "INPUT.SKIP_CORRUPT", False, "INPUT.DROP_RGB", 0.0, "INPUT.DROP_SAR", 0.0),
)


def draw_dataset_sheet(cfg: CfgNode, name: str, output: str | os.PathLike, num: int) -> tuple[int, int]:
    """Draw evenly spaced samples of a registered dataset.

    Args:
        cfg: Its INPUT says how files are read.
        name: The dataset.
        output: PNG, PDF or SVG to write.
        num: The maximum number of samples, at least 1.

    Returns:
        The numbers of samples drawn and in the dataset.

    Raises:
        DataError: A file cannot be used, or the picture cannot be written or would replace a file of the dataset.
    """
    samples, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
    check_outputs({"--output": [output]}, sample_inputs(samples))
    chosen = choose_evenly(samples, num)
    draw_panels(
        output,
        [read_panel_row(cfg, sample, metadata) for sample in chosen],
        classes=metadata.stuff_classes,
        colors=metadata.get("stuff_colors"),
        unseen=metadata.get("unseen_classes", ()),
    )
    return len(chosen), len(samples)


def choose_evenly(samples: Sequence[dict], num: int) -> list[dict]:
    """At most ``num`` evenly spaced samples, always the same ones."""
    places = np.linspace(0, len(samples) - 1, min(num, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def read_panel_row(cfg: CfgNode, sample: dict, metadata: Metadata) -> PanelRow:
    """Read a pair as the model sees it, and its label, if any.

    Args:
        cfg: Its INPUT says how files are read.
        sample: The dataset dict.
        metadata: The metadata of its dataset.

    Raises:
        DataError: A file cannot be used.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(SHEET_SETTINGS))
    item = build_dataset_mapper(cfg, is_train=False)(sample)
    rgb, sar = (item[key].permute(1, 2, 0).numpy().round().astype(np.uint8) for key in ("image", "sar_image"))
    label = None
    if path := sample.get("sem_seg_file_name"):
        scheme = label_scheme(metadata)
        with RasterSource(sample["file_name"]) as image:
            label = read_label(
                path,
                num_classes=len(scheme.classes),
                ignore_label=scheme.ignore_label,
                label_values=scheme.label_values,
                like=image,
            )
        label[label == scheme.ignore_label] = 255  # the value of ignored pixels in draw_panels
    return PanelRow(rgb, sar, label, name=str(sample.get("image_id", "")))
