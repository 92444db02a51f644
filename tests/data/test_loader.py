"""INPUT.SKIP_CORRUPT and errors, through Detectron2's own loader with a worker process."""

import itertools
import multiprocessing

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from mm_ovseg.data import build_dataset_mapper, build_train_loader, register_rgb_sar_dataset
from mm_ovseg.errors import DataError


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


def test_two_workers_share_the_pairs(four_pairs):
    cfg, _ = four_pairs
    cfg.DATALOADER.NUM_WORKERS = 2
    assert sorted(drawn(build_train_loader(cfg, build_dataset_mapper(cfg, True)), 2)) == ["0", "1", "2", "3"]


def test_a_worker_skips_what_is_damaged_and_the_main_process_counts(four_pairs):
    cfg, folder = four_pairs
    cfg.INPUT.SKIP_CORRUPT = True
    (folder / "rgb" / "1.png").write_bytes(b"")
    (folder / "sar" / "2.png").write_bytes((folder / "sar" / "2.png").read_bytes()[:40])
    mapper = build_dataset_mapper(cfg, True)
    names = drawn(build_train_loader(cfg, mapper), 10)
    assert len(names) == 20 and set(names) == {"0", "3"}
    assert mapper.skipped.value >= 18  # two of four in every one of ten passes, but for the end of the last


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
    with pytest.raises(DataError, match=r"100 samples in a row were left out, the last one: .*\.png cannot be read"):
        drawn(loader, 1)


def test_the_error_of_a_worker_is_still_one_sentence(four_pairs):
    cfg, folder = four_pairs
    for index in range(4):
        (folder / "sar" / f"{index}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        drawn(build_train_loader(cfg, build_dataset_mapper(cfg, True)), 1)
    message = str(caught.value)
    assert message.startswith(str(folder / "sar")) and message.endswith("replace it.") and "\n" not in message
    assert len(DatasetCatalog.get("four")) == 4
