"""What the fit of the dense encoder's projections sees."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from mm_ovseg.engine import initialization
from mm_ovseg.engine.initialization import initialize_text_projections
from mm_ovseg.errors import DataError

IMAGES = 8


@pytest.fixture
def fitted_to(make_cfg, tmp_path, write_raster, monkeypatch, forget_datasets):
    """A function ``(*overrides) -> crops`` that the fit gets, of pairs without labels and metadata, wide and tall."""
    generator = np.random.default_rng(0)
    pairs = []
    for index in range(4):
        files = {}
        for kind, channels in (("file_name", 3), ("sar_file_name", 1)):
            pixels = generator.integers(1, 255, (40, 60, channels) if index % 2 else (60, 40, channels), np.uint8)
            files[kind] = str(write_raster(tmp_path / kind / f"{index}.png", pixels))
        pairs.append(files)
    DatasetCatalog.register("fit_pairs", lambda: pairs)
    batches = []
    monkeypatch.setattr(initialization, "fit_text_projections", lambda model, given: batches.extend(given))

    def run(*overrides):
        batches.clear()
        words = ["MODEL.DENSE_ENCODER.FIT_DATASET", "fit_pairs", "MODEL.DENSE_ENCODER.FIT_IMAGES", IMAGES - 1]
        words += ["SOLVER.IMS_PER_BATCH", 4, "DATALOADER.NUM_WORKERS", 0, "INPUT.CROP.SIZE", [32, 32]]
        cfg = make_cfg("configs/quickstart/mm_ovseg.yaml", *words, *overrides)
        initialize_text_projections(cfg, SimpleNamespace(dino=object()), seed=5)
        return [item for batch in batches for item in batch]

    run.pairs = pairs
    return run


def contents(items):
    return [torch.cat([item["image"], item["sar_image"]]) for item in items]


def same(items, others):
    assert len(items) == len(others)
    return all(map(torch.equal, contents(items), contents(others)))


def test_it_is_clear_and_plain_whatever_training_does(fitted_to):
    plain = fitted_to("INPUT.COLOR_AUG_SSD", False)
    assert len(plain) == IMAGES and not any("sem_seg" in item for item in plain)
    assert {item["file_name"] for item in plain} == {pair["file_name"] for pair in fitted_to.pairs}
    clouds = ("INPUT.CLOUDS.ENABLED", True, "INPUT.CLOUDS.KIND", "fractal", "INPUT.CLOUDS.PROBABILITY", 1.0)
    for overrides in (
        clouds,
        ("INPUT.SAR.SPECKLE_LOOKS", 1.0),
        ("INPUT.COLOR_AUG_SSD", True),
        ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"),
        ("DATALOADER.ASPECT_RATIO_GROUPING", True),
        ("INPUT.DATASET_MAPPER_NAME", "ones_own"),
    ):
        assert same(fitted_to(*overrides), plain), overrides


def test_processes_share_the_crops_of_one(fitted_to, monkeypatch):
    alone, together = fitted_to(), []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        together.append(fitted_to())
    assert same([item for both in zip(*together, strict=True) for item in both], alone)


def test_damaged_pairs(fitted_to):
    with open(fitted_to.pairs[2]["sar_file_name"], "wb") as file:
        file.write(b"torn")
    with pytest.raises(DataError, match=r"sar_file_name/2\.png"):
        fitted_to()
    items = fitted_to("INPUT.SKIP_CORRUPT", True)
    assert len(items) == IMAGES and not any("2.png" in item["file_name"] for item in items)
    fitted_to.pairs.clear()
    with pytest.raises(DataError, match="FIT_DATASET names 'fit_pairs', which has no pairs"):
        fitted_to()
