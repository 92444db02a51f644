"""The datasets that are registered at import, without being read: those of the paper.

Of the paper's six settings and their training sets, in the layouts that the data were released in, every set has its
test classes, the unseen ones among them. Some masks were released with an order of their own, the training masks
without the unseen classes: ``label_values`` lead each back to the order of the class file.
"""

import os
from pathlib import Path

from mm_ovseg.data.registration import read_class_file, register_rgb_sar_dataset

__all__ = ["CLASS_FILES", "CMU_FOLDER", "find_class_file"]

CLASS_FILES = Path(__file__).parent / "classes"
CMU_FOLDER = "CMU"  # in $DETECTRON2_DATASETS


def find_class_file(name: str | os.PathLike) -> Path:
    """A class file by its path, or, where that does not exist, one of ours by its name alone."""
    path = Path(name)
    ours = CLASS_FILES / path.name
    return ours if not path.exists() and path.name == str(name) and ours.is_file() else path


def _register(name: str, class_file: str, released_order: tuple[str, ...] = (), **arguments) -> None:
    """Register one set. ``released_order``: class of each mask value, where it is not the class file's order."""
    vocabulary = read_class_file(CLASS_FILES / class_file)
    if released_order:
        order = {value: vocabulary["classes"].index(entry) for value, entry in enumerate(released_order)}
        arguments["label_values"] = order
    register_rgb_sar_dataset(name, **vocabulary, **arguments)


def _register_pie() -> None:
    seen = ("background", "city", "forest", "farmland")
    for setting, rgb in (("cloud", "rgb_clouds"), ("clean", "rgb")):
        for split, released_order in (("train", seen), ("val", ())):
            _register(
                f"pie_{setting}_{split}",
                "pie.json",
                released_order,
                root=f"PIE_RGBSAR/{split}",
                rgb=rgb,
                sar="sar",
                labels="D2masks6",
            )


def _register_ddhr() -> None:
    sets = (
        ("ddhr_sk_train", "DDSK/train", "D2masks3class", ("city", "forest", "farmland")),
        ("ddhr_sk_val", "DDSK/val", "D2masks", ()),
        ("ddhr_ch_val", "DDCH/val", "D2masks", ("city", "road", "farmland", "forest", "water")),
    )
    for name, root, labels, released_order in sets:
        _register(
            name,
            "ddhr.json",
            released_order,
            root=root,
            rgb="rgb_clouds",
            sar="sar",
            labels=labels,
            ground_sampling_distance=1.0,
        )


def _register_openearthmap() -> None:
    seen = ("bareland", "rangeland", "developed space", "tree", "agriculture land")
    for setting, rgb in (("thick", "rgb_cloud"), ("thin", "rgb_cloud_thin")):
        for split, labels, released_order in (("train", "D2masks5class", seen), ("val", "D2masks", ())):
            _register(
                f"oem_{setting}_{split}",
                "openearthmap.json",
                released_order,
                root=f"OEM/{split}",
                rgb=rgb,
                sar="imgs",
                labels=labels,
            )


def _register_cmu_pairs() -> None:
    """The unlabelled pairs of stage 1 (cross-modal unification)."""
    for split in ("train", "val"):
        register_rgb_sar_dataset(f"cmu_pairs_{split}", root=f"{CMU_FOLDER}/{split}", rgb="rgb", sar="sar")


_register_pie()
_register_ddhr()
_register_openearthmap()
_register_cmu_pairs()
