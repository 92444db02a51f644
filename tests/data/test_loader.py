"""INPUT.SKIP_CORRUPT and errors, through Detectron2's own loader with a worker process."""

import itertools
import multiprocessing
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from mm_ovseg.data import build_dataset_mapper, build_train_loader, register_rgb_sar_dataset
from mm_ovseg.data.class_balance import present_classes, repeat_factors
from mm_ovseg.errors import ConfigError, DataError


@pytest.fixture
def four_pairs(cfg, datasets_root, write_raster):
    """A config that trains on four pairs, with one worker; and the folder of the pairs."""
    for index in range(4):
        for kind in ("rgb", "sar", "labels"):
            write_raster(datasets_root / "four" / kind / f"{index}.png", np.full((8, 8), index, dtype=np.uint8))
    arguments = {"rgb": "rgb", "sar": "sar", "labels": "labels", "classes": ["a", "b", "c", "d"]}
    register_rgb_sar_dataset("four", root="four", **arguments)
    cfg.DATASETS.TRAIN = ("four",)
    cfg.DATALOADER.NUM_WORKERS = 1
    cfg.SOLVER.IMS_PER_BATCH = 2
    return cfg, datasets_root / "four"


def drawn(loader, batches):
    return [item["image_id"] for batch in itertools.islice(iter(loader), batches) for item in batch]


@pytest.mark.parametrize("grouping", [True, False])
def test_all_pairs_are_drawn_in_batches(four_pairs, grouping):
    cfg, _ = four_pairs
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = grouping
    loader = build_train_loader(cfg, build_dataset_mapper(cfg, True))
    batches = list(itertools.islice(iter(loader), 4))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]
    epochs = [item["image_id"] for batch in batches for item in batch]
    assert sorted(epochs[:4]) == sorted(epochs[4:]) == ["0", "1", "2", "3"]
    assert all(int(item["sem_seg"][0, 0]) == int(item["image_id"]) for batch in batches for item in batch)


def stream(cfg, workers, batches=7, first_batch=0):
    """Names and a checksum of the pixels of the batches of a loader with every augmentation."""
    cfg = cfg.clone()
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", workers, "INPUT.RANDOM_FLIP", "both", "INPUT.COLOR_AUG_SSD", True])
    cfg.merge_from_list(["INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [6, 5], "INPUT.SAR.SPECKLE_LOOKS", 1.0])
    loader = build_train_loader(cfg, build_dataset_mapper(cfg, True))
    loader.first_batch = first_batch
    return [
        [(item["image_id"], item["image"].sum().item(), item["sar_image"].sum().item()) for item in batch]
        for batch in itertools.islice(iter(loader), batches)
    ]


@pytest.mark.parametrize("corrupt", [False, True])
def test_batches_depend_on_the_seed_and_their_number_alone(four_pairs, corrupt):
    cfg, folder = four_pairs
    cfg.SEED = 5
    if corrupt:
        cfg.INPUT.SKIP_CORRUPT = True
        (folder / "rgb" / "1.png").write_bytes(b"")
    whole = stream(cfg, workers=0)
    sums = [sar_sum for batch in whole for _, _, sar_sum in batch if sar_sum > 0]
    assert len(set(sums)) == len(sums) > 7  # each is augmented in its own way
    assert stream(cfg, workers=2) == whole
    assert stream(cfg, workers=1, first_batch=3, batches=4) == whole[3:]
    cfg.SEED = 6
    assert stream(cfg, workers=0) != whole


def test_loading_in_this_process_leaves_its_random_numbers_alone(four_pairs):
    cfg, _ = four_pairs
    expected = []
    for loads in (False, True):
        random.seed(1)
        np.random.seed(2)
        torch.manual_seed(3)
        cfg.SEED = 0
        if loads:
            stream(cfg, workers=0, batches=1)
        expected.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert expected[0] == expected[1]


def test_without_a_seed_one_is_drawn(four_pairs):
    cfg, _ = four_pairs
    assert cfg.SEED < 0
    mapper = build_dataset_mapper(cfg, True)
    seeds = {build_train_loader(cfg, mapper).seed for _ in range(3)}
    assert len(seeds) > 1 and min(seeds) >= 0


def test_a_worker_skips_what_is_damaged_and_the_main_process_counts(four_pairs):
    cfg, folder = four_pairs
    cfg.INPUT.SKIP_CORRUPT = True
    (folder / "rgb" / "1.png").write_bytes(b"")
    (folder / "sar" / "2.png").write_bytes((folder / "sar" / "2.png").read_bytes()[:40])
    mapper = build_dataset_mapper(cfg, True)
    names = drawn(build_train_loader(cfg, mapper), 10)
    assert len(names) == 20 and set(names) == {"0", "3"}
    assert mapper.skipped.value >= 10  # two of four in every one of five passes, and some that were to replace them


def test_spawned_workers_count_too(four_pairs):
    cfg, folder = four_pairs
    cfg.INPUT.SKIP_CORRUPT = True
    (folder / "rgb" / "1.png").write_bytes(b"")
    default = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)  # as on macOS and Windows
    try:
        mapper = build_dataset_mapper(cfg, True)
        assert set(drawn(build_train_loader(cfg, mapper), 4)) == {"0", "2", "3"}
        assert mapper.skipped.value >= 2
    finally:
        multiprocessing.set_start_method(default, force=True)


def test_a_worker_that_can_read_nothing_ends_training(four_pairs):
    cfg, folder = four_pairs
    cfg.INPUT.SKIP_CORRUPT = True
    loader = build_train_loader(cfg, build_dataset_mapper(cfg, True))
    for file in (folder / "sar").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"100 samples in a row were left out, the last one: .*\.png is an empty file"):
        drawn(loader, 1)


def test_the_error_of_a_worker_is_still_one_sentence(four_pairs):
    cfg, folder = four_pairs
    for index in range(4):
        (folder / "sar" / f"{index}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        drawn(build_train_loader(cfg, build_dataset_mapper(cfg, True)), 1)
    message = str(caught.value)
    assert message.startswith(str(folder / "sar")) and "replace it" in message and "\n" not in message
    assert len(DatasetCatalog.get("four")) == 4


def write_labels(folder, write_raster, labels):
    for index, label in enumerate(labels):
        write_raster(folder / "labels" / f"{index}.png", np.array(label, dtype=np.uint8).reshape(8, 8))


def test_rare_classes_are_drawn_more_often_where_the_config_asks(four_pairs, write_raster):
    cfg, folder = four_pairs
    common, rare = np.zeros(64), np.zeros(64)
    rare[:1] = 3  # of 64 pixels one: more than a hundredth
    write_labels(folder, write_raster, [common, common, common, rare])
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 1.0
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.CROP.ENABLED = False
    cfg.SEED = 1
    names = drawn(build_train_loader(cfg, build_dataset_mapper(cfg, True)), 250)
    # 1 of 4 samples has the class: it comes sqrt(1 / (1 / 4)) = 2 times where the others come once.
    assert names.count("3") / len(names) == pytest.approx(2 / 5, abs=0.01)
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.25  # no class is rarer than that
    names = drawn(build_train_loader(cfg, build_dataset_mapper(cfg, True)), 250)
    assert names.count("3") / len(names) == pytest.approx(1 / 4, abs=0.01)


def test_a_class_of_a_few_pixels_and_an_unseen_one_do_not_count(four_pairs, write_raster):
    cfg, folder = four_pairs
    few = np.zeros((8, 8))
    write_labels(folder, write_raster, [few, few, few, np.full((8, 8), 2)])
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 1.0
    cfg.DATASETS.UNSEEN = ["c"]
    mapper = build_dataset_mapper(cfg, True)
    factors = repeat_factors(
        DatasetCatalog.get("four"), mapper.label_readers, ignore_value=mapper.ignore_value, threshold=1.0
    )
    assert factors.tolist() == pytest.approx([(4 / 3) ** 0.5] * 3 + [1.0])
    label = np.zeros((100, 100), dtype=np.uint8)
    label[0, :99] = 1
    assert present_classes(label, 255) == [0]
    label[1, 0] = 1
    assert present_classes(label, 255) == [0, 1]
    label[1:] = 255  # of 100 labelled pixels 99 are of class 1
    assert present_classes(label, 255) == [0, 1]


@pytest.mark.parametrize("key,value,message", [
    ("DATALOADER.SAMPLER_TRAIN", "Sampler", "choose TrainingSampler or RepeatFactorTrainingSampler"),
    ("DATALOADER.REPEAT_THRESHOLD", 0.0, "REPEAT_THRESHOLD is 0.0; give"),
    ("DATALOADER.PREFETCH", 0, "PREFETCH is 0; give"),
    ("INPUT.DATASET_MAPPER_NAME", "rgb_sar_pair", "the mapper 'rgb_sar_pair' reads none"),
])  # fmt: skip
def test_settings_of_the_loader_that_cannot_be(four_pairs, key, value, message):
    cfg, _ = four_pairs
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.merge_from_list([key, value])
    with pytest.raises(ConfigError) as error:
        build_train_loader(cfg, build_dataset_mapper(cfg, True))
    assert message in str(error.value)


def test_prefetching_changes_no_batch(four_pairs):
    cfg, _ = four_pairs
    cfg.SEED = 5
    expected = stream(cfg, workers=0)
    cfg.DATALOADER.PREFETCH = 4
    assert stream(cfg, workers=2) == expected
