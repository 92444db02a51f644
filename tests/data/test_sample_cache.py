"""DATALOADER.CACHE_DIR: samples that were read once come from the cache, and are the same."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from mm_ovseg.data import build_dataset_mapper, register_rgb_sar_dataset
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.data.sample_cache import SampleCache
from mm_ovseg.errors import DataError


@pytest.fixture
def pair(cfg, datasets_root, write_raster, tmp_path):
    """A config with a cache that trains on one pair of 8-bit files; and the folder of the pair."""
    random = np.random.default_rng(0)
    for kind in ("rgb", "sar"):
        write_raster(datasets_root / "one" / kind / "a.png", random.integers(1, 255, (12, 10, 3)).astype(np.uint8))
    write_raster(datasets_root / "one" / "labels" / "a.tif", random.integers(0, 3, (12, 10)).astype(np.uint8))
    register_rgb_sar_dataset("one", root="one", rgb="rgb", sar="sar", labels="labels", classes=["a", "b", "c"])
    cfg.DATASETS.TRAIN = ("one",)
    cfg.DATALOADER.CACHE_DIR = str(tmp_path / "cache")
    cfg.INPUT.CROP.ENABLED = False
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.COLOR_AUG_SSD = False
    return cfg, datasets_root / "one"


def item_of(cfg, is_train=True):
    return build_dataset_mapper(cfg, is_train)(DatasetCatalog.get("one")[0])


def same(first, second):
    tensors = [key for key, value in first.items() if isinstance(value, torch.Tensor)]
    assert {"image", "sar_image", "image_valid", "sar_valid"} <= set(tensors)
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) and first[key].dtype == second[key].dtype for key in tensors
    )


def entries(cfg):
    return sorted(os.listdir(cfg.DATALOADER.CACHE_DIR)) if os.path.isdir(cfg.DATALOADER.CACHE_DIR) else []


def without_cache(cfg):
    cfg = cfg.clone()
    cfg.DATALOADER.CACHE_DIR = ""
    return cfg


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("scale", ["8bit", "amplitude"])
def test_the_second_reading_is_the_first_without_opening_the_files(pair, is_train, scale, monkeypatch):
    cfg, _ = pair
    cfg.INPUT.SAR.SCALE = scale
    expected = item_of(without_cache(cfg), is_train)
    assert entries(cfg) == []
    assert same(item_of(cfg, is_train), expected)
    assert len(entries(cfg)) == 1
    monkeypatch.setattr(PairReader, "read", None)  # which would be called
    assert same(item_of(cfg, is_train), expected)
    assert ("sem_seg" in expected) == is_train


def test_pixels_without_data_stay_so(pair, write_raster, monkeypatch):
    cfg, folder = pair
    sar = np.arange(1.0, 121).reshape(12, 10).astype(np.float32)
    sar[3, 4] = np.nan
    write_raster(folder / "sar" / "a.tif", sar)
    (folder / "sar" / "a.png").unlink()
    cfg.INPUT.SAR.SCALE = "amplitude"
    first = item_of(cfg)
    monkeypatch.setattr(PairReader, "read", None)
    second = item_of(cfg)
    assert same(first, second) and not second["sar_valid"][3, 4] and second["sar_valid"].sum() == 119


def test_what_has_changed_is_read_anew(pair, write_raster):
    cfg, folder = pair
    first = item_of(cfg)
    cfg.INPUT.RGB.BANDS = [3, 2, 1]
    assert torch.equal(item_of(cfg)["image"], first["image"].flip(0))
    cfg.INPUT.RGB.BANDS = []
    cfg.DATASETS.UNSEEN = ["a"]
    assert (item_of(cfg)["sem_seg"] == 255).equal(first["sem_seg"] == 0)
    cfg.DATASETS.UNSEEN = None
    assert len(entries(cfg)) == 3
    size = (folder / "labels" / "a.tif").stat().st_size
    write_raster(folder / "labels" / "a.tif", np.full((12, 10), 2, dtype=np.uint8))
    assert (folder / "labels" / "a.tif").stat().st_size == size
    os.utime(folder / "labels" / "a.tif", ns=(1, 1))  # whatever the clock's resolution
    assert (item_of(cfg)["sem_seg"] == 2).all()


def test_a_damaged_entry_is_made_again(pair):
    cfg, _ = pair
    expected = item_of(cfg)
    (name,) = entries(cfg)
    entry = Path(cfg.DATALOADER.CACHE_DIR, name)
    whole = entry.read_bytes()
    for content in (b"", whole[:-7]):
        entry.write_bytes(content)
        assert same(item_of(cfg), expected) and same(item_of(cfg), expected)
        assert entry.stat().st_size == len(whole)


def test_a_damaged_or_missing_file_is_the_same_error_and_leaves_no_entry(pair):
    cfg, folder = pair
    mapper = build_dataset_mapper(cfg, True)
    (pair_dict,) = DatasetCatalog.get("one")
    (folder / "sar" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png is an empty file"):
        mapper(pair_dict)
    (folder / "sar" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        mapper(pair_dict)
    assert entries(cfg) == []


def test_a_full_disk_ends_the_caching_not_the_training(pair, monkeypatch, caplog):
    cfg, _ = pair
    expected = item_of(without_cache(cfg))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mm_ovseg.data.sample_cache.save_file", full)
    mapper = build_dataset_mapper(cfg, True)
    (pair_dict,) = DatasetCatalog.get("one")
    with caplog.at_level("WARNING", logger="mm_ovseg"):
        assert same(mapper(pair_dict), expected) and same(mapper(pair_dict), expected)
    assert [record.message for record in caplog.records if "No space left" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1 and entries(cfg) == []


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file, not a folder"):
        SampleCache(tmp_path / "file")
