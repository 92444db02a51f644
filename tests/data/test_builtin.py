import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.data import build_dataset_mapper
from mm_ovseg.data.builtin import CLASS_FILES
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import read_label

PIE = ["background", "city", "road", "water", "forest", "farmland"]
DDHR = ["city", "road", "forest", "water", "farmland"]
OEM = ["bareland", "rangeland", "developed space", "road", "tree", "water", "agriculture land", "building"]
PIE_SEEN = ["background", "city", "forest", "farmland"]
DDHR_SEEN = ["city", "forest", "farmland"]
OEM_SEEN = ["bareland", "rangeland", "developed space", "tree", "agriculture land"]

# name: folder, RGB file, SAR file, label file, all classes, unseen classes, class of each released mask value
SETS = {
    "pie_cloud_train": ("PIE_RGBSAR/train", "rgb_clouds", "sar", "D2masks6", PIE, {"road", "water"}, PIE_SEEN),
    "pie_cloud_val": ("PIE_RGBSAR/val", "rgb_clouds", "sar", "D2masks6", PIE, {"road", "water"}, PIE),
    "pie_clean_train": ("PIE_RGBSAR/train", "rgb", "sar", "D2masks6", PIE, {"road", "water"}, PIE_SEEN),
    "pie_clean_val": ("PIE_RGBSAR/val", "rgb", "sar", "D2masks6", PIE, {"road", "water"}, PIE),
    "ddhr_sk_train": ("DDSK/train", "rgb_clouds", "sar", "D2masks3class", DDHR, {"road", "water"}, DDHR_SEEN),
    "ddhr_sk_val": ("DDSK/val", "rgb_clouds", "sar", "D2masks", DDHR, {"road", "water"}, DDHR),
    "ddhr_ch_val": (
        "DDCH/val",
        "rgb_clouds",
        "sar",
        "D2masks",
        DDHR,
        {"road", "water"},
        ["city", "road", "farmland", "forest", "water"],
    ),
    "oem_thick_train": (
        "OEM/train",
        "rgb_cloud",
        "imgs",
        "D2masks5class",
        OEM,
        {"road", "water", "building"},
        OEM_SEEN,
    ),
    "oem_thick_val": ("OEM/val", "rgb_cloud", "imgs", "D2masks", OEM, {"road", "water", "building"}, OEM),
    "oem_thin_train": (
        "OEM/train",
        "rgb_cloud_thin",
        "imgs",
        "D2masks5class",
        OEM,
        {"road", "water", "building"},
        OEM_SEEN,
    ),
    "oem_thin_val": ("OEM/val", "rgb_cloud_thin", "imgs", "D2masks", OEM, {"road", "water", "building"}, OEM),
}
SETTINGS = [
    ("pie_cloud_train", "pie_cloud_val"),
    ("ddhr_sk_train", "ddhr_sk_val"),
    ("oem_thick_train", "oem_thick_val"),
    ("oem_thin_train", "oem_thin_val"),
    ("pie_clean_train", "pie_clean_val"),
    ("ddhr_sk_train", "ddhr_ch_val"),
]


def write_set(write_raster, datasets_root, name):
    """Write one tile of a set as released; each mask value stands in one column, the last one is ignored."""
    folder, rgb, sar, labels, _, _, released_order = SETS[name]
    folder = datasets_root / folder
    mask = np.tile(np.array([*range(len(released_order)), 255], dtype=np.uint8), (8, 1))
    suffix = ".jpg" if name == "ddhr_ch_val" else ".png"
    write_raster(folder / rgb / f"7_3{suffix}", np.full((*mask.shape, 3), 120, dtype=np.uint8))
    write_raster(folder / sar / "7_3.png", np.full(mask.shape, 60, dtype=np.uint8))
    write_raster(folder / labels / "7_3.png", mask)


@pytest.mark.parametrize(("train", "val"), SETTINGS)
def test_every_setting_loads_in_training_and_in_test(datasets_root, write_raster, cfg, train, val):
    for name in (train, val):
        write_set(write_raster, datasets_root, name)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (val,)

    _, _, _, _, classes, unseen, released_order = SETS[train]
    item = build_dataset_mapper(cfg, True)(DatasetCatalog.get(train)[0])
    seen = [name for name in classes if name not in unseen]
    assert seen == released_order
    np.testing.assert_array_equal(item["sem_seg"][0], [*range(len(seen)), 255])
    assert item["image"].shape == item["sar_image"].shape == (3, 8, len(seen) + 1)

    sample = DatasetCatalog.get(val)[0]
    item = build_dataset_mapper(cfg, False)(sample)
    assert "sem_seg" not in item and item["image"].shape[1:] == (8, len(SETS[val][6]) + 1)
    metadata = MetadataCatalog.get(val)
    label = read_label(
        sample["sem_seg_file_name"], num_classes=len(metadata.stuff_classes), label_values=metadata.label_values
    )
    assert [metadata.stuff_classes[index] for index in label[0, :-1]] == SETS[val][6]
    assert label[0, -1] == 255


@pytest.mark.parametrize("name", SETS)
def test_vocabularies(name):
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == SETS[name][4]
    assert set(metadata.unseen_classes) == SETS[name][5]
    assert len(metadata.stuff_colors) == len(metadata.stuff_classes)


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_pairs_of_stage_1_load_without_labels(datasets_root, write_raster, cfg, split):
    folder = datasets_root / "CMU" / split
    write_raster(folder / "rgb" / "7_3.png", np.full((8, 6, 3), 120, dtype=np.uint8))
    write_raster(folder / "sar" / "7_3.tif", np.full((8, 6), 60, dtype=np.uint8))
    (sample,) = DatasetCatalog.get(f"cmu_pairs_{split}")
    assert MetadataCatalog.get(f"cmu_pairs_{split}").stuff_classes == []
    cfg.DATASETS.TRAIN, cfg.INPUT.DATASET_MAPPER_NAME = (f"cmu_pairs_{split}",), "rgb_sar_pair"
    item = build_dataset_mapper(cfg, True)(sample)
    assert item["image"].shape == item["sar_image"].shape == (3, 8, 6) and "sem_seg" not in item
    cfg.INPUT.DATASET_MAPPER_NAME = "rgb_sar_semantic"
    with pytest.raises(ConfigError, match=f"'cmu_pairs_{split}', which has no labels"):
        build_dataset_mapper(cfg, True)


def test_released_prompts_keep_the_released_spelling_and_the_order():
    for family, released in (("pie", "backbroad"), ("openearthmap", "developedspace")):
        ours = read_class_file(CLASS_FILES / f"{family}.json")["classes"]
        theirs = read_class_file(CLASS_FILES / f"{family}_released_prompts.json")["classes"]
        assert released in theirs and released not in ours and len(ours) == len(theirs)
