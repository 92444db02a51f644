"""Small archives of the same structure as the published ones, and the command lines that prepare them."""

import hashlib
import warnings

import numpy as np
import pytest
import rasterio
from detectron2.config import get_cfg
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from mm_ovseg.config import add_mm_ovseg_config
from tests.conftest import load_tool


def write_tile(path, array, corner=None, resolution=0.5, **profile):
    """Write (H, W, bands) as GeoTIFF; ``corner``: (left, top) in UTM zone 31N."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = array.shape
    profile = {"driver": "GTiff", "dtype": array.dtype, "height": height, "width": width, "count": count, **profile}
    if corner is not None:
        profile |= {"crs": "EPSG:32631", "transform": from_origin(*corner, resolution, resolution)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            file.write(array.transpose(2, 0, 1))
    return path


def contents(folder):
    """SHA-256 of every file below a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def without_journals(files):
    """Those that do not hang on when the sources were written."""
    return {name: digest for name, digest in files.items() if not name.endswith(".jsonl")}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """$DETECTRON2_DATASETS, a folder that does not exist yet."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture
def prepare(root, capsys):
    """A function ``(script, *arguments) -> what it printed``; the status must be the one given."""

    def call(script, *arguments, status=0):
        main = load_tool(f"../datasets/{script}").main
        words = [*map(str, arguments)]
        if "--workers" not in words:
            words += ["--workers", "1"]
        if status:
            with pytest.raises(SystemExit) as stopped:
                main(words)
            assert stopped.value.code == status
        else:
            main(words)
        return capsys.readouterr()

    return call


@pytest.fixture
def cfg():
    """The default config for pairs, without augmentation."""
    config = get_cfg()
    add_mm_ovseg_config(config)
    config.MODEL.DEVICE = "cpu"
    config.INPUT.DATASET_MAPPER_NAME = "rgb_sar_pair"
    config.INPUT.RANDOM_FLIP = "none"
    config.INPUT.CROP.ENABLED = False
    config.INPUT.MIN_SIZE_TRAIN = (0,)
    config.INPUT.COLOR_AUG_SSD = False
    config.DATASETS.TRAIN = ("cmu_pairs_train",)
    return config


def noise(height, width, bands, seed, low=1, high=255):
    """Random uint8 (H, W, bands) from ``low`` to ``high``."""
    return np.random.default_rng(seed).integers(low, high + 1, (height, width, bands)).astype(np.uint8)
