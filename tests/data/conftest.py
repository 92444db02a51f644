"""Rasters and datasets that the tests of mm_ovseg.data generate."""

import warnings

import numpy as np
import pytest
import rasterio
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from rasterio.errors import NotGeoreferencedWarning

from mm_ovseg.config import add_mm_ovseg_config

DRIVERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "GTiff", ".TIF": "GTiff"}


@pytest.fixture
def write_raster():
    """A function ``(path, array (H, W) or (H, W, bands), colormap=None, colorinterp=None, **profile) -> path``."""

    def write(path, array, colormap=None, colorinterp=None, **profile):
        path.parent.mkdir(parents=True, exist_ok=True)
        bands = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
        profile = {"driver": DRIVERS[path.suffix], "dtype": array.dtype, **profile}
        count, height, width = bands.shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", width=width, height=height, count=count, **profile) as dataset:
                if colorinterp is not None:
                    dataset.colorinterp = colorinterp
                dataset.write(bands)
                if colormap is not None:
                    dataset.write_colormap(1, colormap)
        return path

    return write


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
