"""The paper's datasets, which are registered at import without reading any file.

The paper's six settings and their training sets are registered in the layouts of their release, each with all test
classes, including the unseen ones. Some masks were released in another class order, training masks without the unseen
classes: ``label_values`` maps each to the order of the class file.
"""

import os
from pathlib import Path

from mm_ovseg.data.registration import read_class_file, register_rgb_sar_dataset

__all__ = ["CLASS_FILES", "CMU_FOLDER", "find_class_file"]

CLASS_FILES = Path(__file__).parent / "classes"
CMU_FOLDER = "CMU"  # in $DETECTRON2_DATASETS

PIE_SEEN = ("background", "city", "forest", "farmland")
DDHR_SEEN = ("city", "forest", "farmland")
DDHR_CH = ("city", "road", "farmland", "forest", "water")
OEM_SEEN = ("bareland", "rangeland", "developed space", "tree", "agriculture land")

# Name, class file, metres per pixel, root, folders of RGB, SAR and labels, and the class of each mask value if the
# order differs from the class file's.
SETS = (
    ("pie_cloud_train", "pie", None, "PIE_RGBSAR/train", "rgb_clouds", "sar", "D2masks6", PIE_SEEN),
    ("pie_cloud_val", "pie", None, "PIE_RGBSAR/val", "rgb_clouds", "sar", "D2masks6", ()),
    ("pie_clean_train", "pie", None, "PIE_RGBSAR/train", "rgb", "sar", "D2masks6", PIE_SEEN),
    ("pie_clean_val", "pie", None, "PIE_RGBSAR/val", "rgb", "sar", "D2masks6", ()),
    ("ddhr_sk_train", "ddhr", 1.0, "DDSK/train", "rgb_clouds", "sar", "D2masks3class", DDHR_SEEN),
    ("ddhr_sk_val", "ddhr", 1.0, "DDSK/val", "rgb_clouds", "sar", "D2masks", ()),
    ("ddhr_ch_val", "ddhr", 1.0, "DDCH/val", "rgb_clouds", "sar", "D2masks", DDHR_CH),
    ("oem_thick_train", "openearthmap", None, "OEM/train", "rgb_cloud", "imgs", "D2masks5class", OEM_SEEN),
    ("oem_thick_val", "openearthmap", None, "OEM/val", "rgb_cloud", "imgs", "D2masks", ()),
    ("oem_thin_train", "openearthmap", None, "OEM/train", "rgb_cloud_thin", "imgs", "D2masks5class", OEM_SEEN),
    ("oem_thin_val", "openearthmap", None, "OEM/val", "rgb_cloud_thin", "imgs", "D2masks", ()),
)


def find_class_file(name: str | os.PathLike) -> Path:
    """A class file by its path or, if that does not exist, one of the package's by its name."""
    path = Path(name)
    ours = CLASS_FILES / path.name
    return ours if not path.exists() and path.name == str(name) and ours.is_file() else path


for _name, _class_file, _metres, _root, _rgb, _sar, _labels, _order in SETS:
    _vocabulary = read_class_file(CLASS_FILES / f"{_class_file}.json")
    register_rgb_sar_dataset(
        _name,
        **_vocabulary,
        root=_root,
        rgb=_rgb,
        sar=_sar,
        labels=_labels,
        label_values={value: _vocabulary["classes"].index(entry) for value, entry in enumerate(_order)} or None,
        ground_sampling_distance=_metres,
    )
for _split in ("train", "val"):  # unlabelled pairs for stage 1 (cross-modal unification)
    register_rgb_sar_dataset(f"cmu_pairs_{_split}", root=f"{CMU_FOLDER}/{_split}", rgb="rgb", sar="sar")
