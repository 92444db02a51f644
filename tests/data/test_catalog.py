"""Datasets that are registered with Detectron2's catalogs alone."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.data import build_dataset_mapper, build_train_loader
from mm_ovseg.data.catalog import LabelScheme, label_scheme, list_pairs
from mm_ovseg.errors import ConfigError, DataError, VocabularyError

CLASSES = ["city", "road", "water"]


@pytest.fixture
def register(datasets_root, write_raster):
    """A function that registers pairs whose label map holds one number, and returns their dicts."""

    def make(name, numbers, **metadata):
        pairs = []
        for index, number in enumerate(numbers):
            files = [datasets_root / name / kind / f"{index}.png" for kind in ("rgb", "sar", "labels")]
            for path in files:
                write_raster(path, np.full((8, 8), number, np.uint8))
            keys = ("file_name", "sar_file_name", "sem_seg_file_name")
            pairs.append(dict(zip(keys, map(str, files), strict=True)))
        DatasetCatalog.register(name, lambda: pairs)
        MetadataCatalog.get(name).set(**metadata)
        return pairs

    return make


def test_the_metadata_need_no_more_than_classes(register):
    register("plain", [0], stuff_classes=CLASSES)
    assert label_scheme(MetadataCatalog.get("plain")) == LabelScheme(tuple(CLASSES), (), 255, None)
    full = {"unseen_classes": ["road"], "ignore_label": 9, "label_values": {7: 0, 8: 9}}
    register("full", [0], stuff_classes=CLASSES, **full)
    assert label_scheme(MetadataCatalog.get("full")) == LabelScheme(tuple(CLASSES), ("road",), 9, {7: 0, 8: 9})


@pytest.mark.parametrize("metadata,message", [
    ({}, r"Dataset 'plain' has no classes; declare them.* MetadataCatalog.get\('plain'\).set\(stuff_classes"),
    ({"stuff_classes": []}, "'plain' has no classes"),
    ({"stuff_classes": "water, road"}, "'plain': Class names must be a list"),
    ({"stuff_classes": ["water", "Water"]}, "'plain': Class names given more than once"),
    ({"stuff_classes": CLASSES, "unseen_classes": ["sea"]}, "'plain': The unseen names sea are not among the classes"),
    ({"stuff_classes": CLASSES, "unseen_classes": ["Water"]}, r"'plain' has the unseen_classes Water, .* spell them"),
    ({"stuff_classes": CLASSES, "ignore_label": 0}, "'plain' has ignore_label 0; give a number from 3"),
    ({"stuff_classes": CLASSES, "label_values": {0: 3}}, "'plain' has the label value 0: 3"),
    ({"stuff_classes": [f"c {index}" for index in range(256)]}, "'plain' has 256 classes"),
])  # fmt: skip
def test_metadata_that_cannot_be(register, metadata, message):
    register("plain", [0], **metadata)
    with pytest.raises((DataError, VocabularyError), match=message):
        label_scheme(MetadataCatalog.get("plain"))


@pytest.mark.parametrize("pairs,message", [
    (None, "KEY names 'plain', whose function in DatasetCatalog does not return a list of dicts"),
    (iter([{}]), "does not return a list"),
    (["rgb.png"], "does not return a list of dicts"),
    ([], "KEY names 'plain', which has no pairs"),
    ([{"file_name": "a.png", "sar_file_name": "b.png"}, {"file_name": "c.png"}], r"pair 1 \(c.png\) has no 'sar_file_"),
    ([{"file_name": "a.png", "sar_file_name": None}], r"pair 0 \(a.png\) has no 'sar_file_name'"),
])  # fmt: skip
def test_pairs_that_cannot_be(datasets_root, pairs, message):
    DatasetCatalog.register("plain", lambda: pairs)
    with pytest.raises(DataError, match=message):
        list_pairs("plain", "KEY", ["file_name", "sar_file_name"])
    with pytest.raises(ConfigError, match="KEY names 'nowhere', which is not registered"):
        list_pairs("nowhere", "KEY")


def test_each_dataset_has_its_own_numbers_whatever_its_dicts_say(cfg, register):
    register("first", [0, 1, 2], stuff_classes=CLASSES)
    # Dicts of another dataset, as those of a function that joins or filters datasets.
    mixed = register("second", [10, 20, 30], stuff_classes=CLASSES, label_values={10: 0, 20: 1, 30: 2})
    for pair in mixed:
        pair["dataset_name"] = "first"
    cfg.DATASETS.TRAIN = ("first", "second")
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 6, 0
    for sampler in ("TrainingSampler", "RepeatFactorTrainingSampler"):
        cfg.DATALOADER.SAMPLER_TRAIN = sampler
        batch = next(iter(build_train_loader(cfg, build_dataset_mapper(cfg, True))))
        for item in batch:
            number = item["image"].unique().item()
            assert torch.equal(item["sem_seg"].unique(), torch.tensor([number // 10 - 1 if number > 2 else number]))
    assert mixed[0]["dataset_name"] == "first"


def test_labels_are_needed_before_training(cfg, register):
    for pair in register("plain", [0], stuff_classes=CLASSES):
        del pair["sem_seg_file_name"]
    cfg.DATASETS.TRAIN, cfg.DATALOADER.NUM_WORKERS = ("plain",), 0
    for sampler in ("TrainingSampler", "RepeatFactorTrainingSampler"):
        cfg.DATALOADER.SAMPLER_TRAIN = sampler
        with pytest.raises(DataError, match="DATASETS.TRAIN names 'plain', whose pair 0 .* has no 'sem_seg_file_name'"):
            build_train_loader(cfg, build_dataset_mapper(cfg, True))


def test_a_mapper_called_directly_finds_the_numbers_of_its_dataset(cfg, register):
    (pair,) = register("plain", [2], stuff_classes=CLASSES)
    register("other", [1], stuff_classes=CLASSES)
    cfg.DATASETS.TRAIN = ("plain",)
    assert (build_dataset_mapper(cfg, True)(pair)["sem_seg"] == 2).all()
    cfg.DATASETS.TRAIN = ("plain", "other")
    with pytest.raises(DataError, match=r"0\.png has the dataset_name None, which is not one of DATASETS\.TRAIN"):
        build_dataset_mapper(cfg, True)(pair)
