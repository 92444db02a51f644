"""The pairs to segment and their label maps, as given on a command line."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog

from mm_ovseg.data import register_rgb_sar_dataset
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.raster import RasterSource, read_label
from mm_ovseg.raster.trust import check_before_opening
from mm_ovseg.vocabulary import find_class, split_synonyms

__all__ = ["find_pairs", "image_file", "read_label_values", "read_pair_label"]

SOURCES = ("file_name", "sar_file_name", "sem_seg_file_name")
INPUT_NAME = "--input, --sar"  # name of the dataset in error messages


def find_pairs(rgb: str | None, sar: str | None, label: str | None, classes: Sequence[str]) -> list[dict]:
    """The dataset dicts of one pair of files, or of folders or globs matched by stem; or of RGB or SAR alone.

    Raises:
        DataError: a file is missing, or has no partner, or neither RGB nor SAR is given.
    """
    if not (rgb or sar):
        raise DataError("There is nothing to map; give --input (RGB), --sar, or both.")
    sources = {kind: path for kind, path in zip(SOURCES, (rgb, sar, label), strict=True) if path}
    folders = [path for path in sources.values() if Path(path).is_dir() or Path(path).name.count("*") == 1]
    for path in sources.values():
        if path not in folders:
            check_before_opening(path, any_format=True)
    if not folders:
        return [{**sources, "image_id": Path(rgb or sar).stem}]
    for path in map(Path, folders):
        if not path.is_dir() and not path.parent.is_dir():
            raise DataError(f"The folder {path.parent} of {path} does not exist; check the path.")
    if len(folders) < len(sources):
        raise DataError(f"{', '.join(sources.values())} mix files and folders; give files only, or folders only.")
    absolute = {kind: os.path.abspath(path) for kind, path in sources.items()}
    root = os.path.commonpath([os.path.dirname(path) for path in absolute.values()])
    patterns = {kind: os.path.relpath(path, root) for kind, path in absolute.items()}
    image = patterns.get("file_name") or patterns["sar_file_name"]  # a dataset has both: one stands in for the other
    register_rgb_sar_dataset(
        INPUT_NAME,
        root=root,
        rgb=image,
        sar=patterns.get("sar_file_name", image),
        labels=patterns.get("sem_seg_file_name"),
        classes=list(classes),
    )
    return [
        {key: value for key, value in item.items() if key in sources or key not in SOURCES}
        for item in DatasetCatalog.get(INPUT_NAME)
    ]


def image_file(pair: Mapping[str, str]) -> str:
    """The image of a pair that gives its grid: RGB or, without it, SAR."""
    return pair.get("file_name") or pair["sar_file_name"]


def read_label_values(classes: Sequence[str], label_classes: Sequence[str] | None) -> dict[int, int]:
    """The meaning of the values of label maps: value -> index into ``classes``, or 254 for none of them.

    Args:
        classes: the classes of the map.
        label_classes: names of the values 0, 1, ... in the label maps; None: those of ``classes``, and 254.

    Raises:
        VocabularyError: none of the label classes is among the classes.
    """
    if label_classes is None:
        return {**{index: index for index in range(len(classes))}, NONE_CLASS: NONE_CLASS}
    found = [_class_or_none(name, classes) for name in label_classes]
    if set(found) == {NONE_CLASS}:
        raise VocabularyError(
            f"--label-classes ({', '.join(label_classes)}) has none of the classes ({', '.join(classes)}); spell them "
            "alike."
        )
    return dict(enumerate(found))


def read_pair_label(pair: Mapping[str, str], label_values: Mapping[int, int]) -> np.ndarray | None:
    """The label map (H, W) of a pair, if any: the ``label_values`` of its values, 255 where ignored.

    Raises:
        DataError: it cannot be read, is on another grid, or holds an unknown value.
    """
    if "sem_seg_file_name" not in pair:
        return None
    with RasterSource(image_file(pair), any_format=True) as image:
        return read_label(
            pair["sem_seg_file_name"],
            num_classes=len(label_values),
            ignore_label=NODATA_CLASS,
            label_values=label_values,
            like=image,
            any_format=True,
        )


def _class_or_none(name: str, classes: Sequence[str]) -> int:
    index = find_class(name, classes)
    if index is None:
        index = find_class(split_synonyms(name)[0], classes)
    return NONE_CLASS if index is None else index
