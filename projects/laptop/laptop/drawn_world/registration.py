"""Registering the synthetic dataset."""

import os
from pathlib import Path

from laptop.drawn_world.layout import GROUND_SAMPLING_DISTANCE, SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES
from mm_ovseg.data.registration import register_rgb_sar_dataset

__all__ = ["SYNTHETIC_FOLDER", "register_synthetic_dataset"]

SYNTHETIC_FOLDER = "synthetic"  # in $DETECTRON2_DATASETS


def register_synthetic_dataset(root: str | os.PathLike | None = None, *, name: str = "synthetic") -> list[str]:
    """Register what :func:`~laptop.drawn_world.dataset.write_synthetic_dataset` has written, or will write.

    Args:
        root: The folder given to it; None for ``$DETECTRON2_DATASETS/synthetic``, looked up at first use.
        name: Start of the datasets' names, to have several of them side by side.

    Returns:
        ``[name]_train``, ``[name]_val`` (with clouds), ``[name]_clear_train`` and ``[name]_clear_val`` (without).

    Raises:
        DataError: A name belongs to a dataset elsewhere.
    """
    folder = Path(SYNTHETIC_FOLDER) if root is None else Path(root).absolute()
    names = []
    for sky, rgb in (("", "rgb_clouds"), ("clear_", "rgb")):
        for split in ("train", "val"):
            names.append(f"{name}_{sky}{split}")
            register_rgb_sar_dataset(
                names[-1],
                root=folder / split,
                rgb=rgb,
                sar="sar",
                labels="labels",
                classes=SYNTHETIC_CLASSES,
                unseen=SYNTHETIC_UNSEEN_CLASSES,
                ground_sampling_distance=GROUND_SAMPLING_DISTANCE,
            )
    return names
