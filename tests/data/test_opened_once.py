"""Each file of a training sample is opened once."""

from collections import Counter

import numpy as np
import pytest

from mm_ovseg.data import build_dataset_mapper, register_rgb_sar_dataset
from mm_ovseg.raster import Grid, source, write_geotiff


@pytest.fixture
def opened(monkeypatch):
    """How often each file is opened, by its name."""
    counts, open_raster = Counter(), source.open_raster

    def count(path, **options):
        counts[str(path)] += 1
        return open_raster(path, **options)

    monkeypatch.setattr(source, "open_raster", count)
    monkeypatch.setattr("mm_ovseg.raster.header.open_raster", count)
    return counts


@pytest.mark.parametrize("stage", ["rgb_sar_semantic", "rgb_sar_pair"])
def test_each_file_of_a_training_sample_is_opened_once(make_cfg, tmp_path, opened, stage):
    for kind, bands in (("rgb", 3), ("sar", 1), ("labels", 1)):
        pixels = np.random.default_rng(0).integers(0, 2, (bands, 40, 40)).astype(np.uint8)
        write_geotiff(tmp_path / kind / "0.tif", pixels, Grid(40, 40))
    name = f"opened_once_{stage}_{tmp_path.name}"
    register_rgb_sar_dataset(name, root=tmp_path, rgb="rgb", sar="sar", labels="labels", classes=["land", "water"])
    cfg = make_cfg("configs/quickstart/mm_ovseg.yaml", "DATASETS.TRAIN", (name,))
    cfg.INPUT.DATASET_MAPPER_NAME = stage
    files = {kind: str(tmp_path / kind / "0.tif") for kind in ("rgb", "sar", "labels")}
    item = build_dataset_mapper(cfg, is_train=True)({
        "file_name": files["rgb"],
        "sar_file_name": files["sar"],
        "sem_seg_file_name": files["labels"],
        "dataset_name": name,
    })  # fmt: skip
    wanted = {files["rgb"]: 1, files["sar"]: 1} | ({files["labels"]: 1} if stage == "rgb_sar_semantic" else {})
    assert opened == wanted
    assert item["image"].shape[0] == 3
