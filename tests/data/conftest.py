"""Datasets that the tests of mm_ovseg.data register."""

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.config import add_mm_ovseg_config


@pytest.fixture
def cfg():
    """The default config, without augmentation, for samples of any size."""
    config = get_cfg()
    add_mm_ovseg_config(config)
    config.MODEL.DEVICE = "cpu"
    config.INPUT.RANDOM_FLIP = "none"
    config.INPUT.CROP.ENABLED = False
    config.INPUT.MIN_SIZE_TRAIN = (0,)
    config.INPUT.COLOR_AUG_SSD = False
    return config


@pytest.fixture(autouse=True)
def datasets_root(tmp_path, monkeypatch):
    """$DETECTRON2_DATASETS is a fresh folder, and what a test registers is removed after it."""
    root = tmp_path / "datasets"
    root.mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    before = set(DatasetCatalog)
    yield root
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
