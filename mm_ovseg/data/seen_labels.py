"""Labels of the seen classes: the part of a full label map that training may use."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from mm_ovseg.data.catalog import label_scheme
from mm_ovseg.data.registration import check_dataset
from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import RasterSource, read_label
from mm_ovseg.vocabulary import seen_classes, unseen_classes

__all__ = ["SeenLabelReader", "build_seen_label_readers"]


@dataclass(frozen=True)
class SeenLabelReader:
    """Reads label files of one dataset as training labels.

    Attributes:
        num_classes, ignore_label, label_values: See :func:`mm_ovseg.raster.read_label`.
        seen_index: uint8 (256,): class index -> index among the seen classes, or the ignore value.
    """

    num_classes: int
    ignore_label: int
    label_values: Mapping[int, int] | None
    seen_index: np.ndarray

    @property
    def settings(self) -> dict[str, Any]:
        """All that the labels depend on besides the file."""
        values = None if self.label_values is None else sorted(self.label_values.items())
        return {**vars(self), "label_values": values, "seen_index": self.seen_index.tolist()}

    def read(self, path: str | os.PathLike | RasterSource) -> np.ndarray:
        """Read a label file, or an open one, as uint8 (H, W): indices among the seen classes, or the ignore value.

        Raises:
            DataError: See :func:`mm_ovseg.raster.read_label`.
        """
        reader = {"num_classes": self.num_classes, "ignore_label": self.ignore_label, "label_values": self.label_values}
        return self.seen_index[read_label(path, **reader)]


def build_seen_label_readers(
    dataset_names: Sequence[str], ignore_value: int, unseen: Sequence[str] | None = None
) -> dict[str, SeenLabelReader]:
    """Readers for the datasets of one training run.

    Args:
        dataset_names: Registered datasets.
        ignore_value: Value of unseen classes and ignored pixels in the readers' results.
        unseen: ``DATASETS.UNSEEN``; None to use each dataset's own.

    Raises:
        ConfigError: No dataset is given, one is not registered, has no labels or has other seen classes than the first,
            or ``ignore_value`` is a class index.
        DataError, VocabularyError: See :func:`~mm_ovseg.data.catalog.label_scheme`.
    """
    if not dataset_names:
        raise ConfigError("DATASETS.TRAIN is empty; name the datasets to train on.")
    seen = _seen_classes_of(dataset_names[0], unseen)
    if not len(seen) <= ignore_value <= 255:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignore_value}; give a number from {len(seen)}, the number of seen "
            "classes, to 255."
        )
    readers = {}
    for name in dataset_names:
        if (others := _seen_classes_of(name, unseen)) != seen:
            raise ConfigError(
                f"DATASETS.TRAIN names '{dataset_names[0]}' with the seen classes {', '.join(seen)} and '{name}' with "
                f"{', '.join(others)}; datasets that are trained on together need the same ones."
            )
        scheme = label_scheme(MetadataCatalog.get(name))
        seen_index = np.full(256, ignore_value, dtype=np.uint8)
        seen_index[[scheme.classes.index(class_name) for class_name in seen]] = np.arange(len(seen))
        readers[name] = SeenLabelReader(len(scheme.classes), scheme.ignore_label, scheme.label_values, seen_index)
    return readers


def _seen_classes_of(dataset_name: str, unseen: Sequence[str] | None) -> tuple[str, ...]:
    """The classes of a registered, labelled dataset that training sees; a ConfigError without any."""
    check_dataset(dataset_name, "DATASETS.TRAIN", any_form=True)
    metadata = MetadataCatalog.get(dataset_name)
    declaration = metadata.get("declaration")
    if declaration is not None and declaration.labels is None:
        raise ConfigError(
            f"DATASETS.TRAIN names '{dataset_name}', which has no labels; declare them, or train stage 1 with it."
        )
    scheme = label_scheme(metadata)
    seen = seen_classes(scheme.classes, unseen_classes(scheme.classes, scheme.unseen, unseen))
    if not seen:
        raise ConfigError(
            f"Dataset '{dataset_name}' has unseen classes only; training needs a seen one: correct its declaration or "
            "DATASETS.UNSEEN."
        )
    return seen
