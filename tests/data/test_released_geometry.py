"""Evaluation with the geometry of the released code, whose tensors are made here by hand."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from PIL import Image

from mm_ovseg.data import DATASET_MAPPER_REGISTRY, build_dataset_mapper
from mm_ovseg.errors import ConfigError
from mm_ovseg.visualization.dataset_sheet import read_panel_row


@pytest.fixture
def make_sample(tmp_path, write_raster):
    """A function ``(height, width) -> (dataset dict, RGB, SAR)`` for a pair of noise, uint8 (H, W, 3) each."""

    def make(height, width, **profile):
        rgb, sar = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        names = {"file_name": (rgb, "rgb.tif"), "sar_file_name": (sar, "sar.tif")}
        files = {key: str(write_raster(tmp_path / file, image, **profile)) for key, (image, file) in names.items()}
        return files, rgb, sar

    return make


def chw(image):
    return torch.from_numpy(image).permute(2, 0, 1).float()


@pytest.mark.parametrize(("height", "width", "resized"), [
    (384, 384, (384, 384)),
    (250, 250, (384, 384)),
    (301, 500, (384, 638)),
    (520, 400, (499, 384)),
    (100, 400, (333, 1333)),  # the longer side ends at INPUT.MAX_SIZE_TEST
])  # fmt: skip
def test_rgb_is_resized_and_sar_is_not(cfg, make_sample, height, width, resized):
    sample, rgb, sar = make_sample(height, width)
    cfg.INPUT.RELEASED_GEOMETRY = True
    item = build_dataset_mapper(cfg, False)(sample)
    assert (item["height"], item["width"]) == (height, width)

    rows, columns = resized
    expected = np.full((384, 384, 3), 128, np.uint8)
    expected[:rows] = np.asarray(Image.fromarray(rgb).resize((columns, rows), Image.BILINEAR))[:384, :384]
    assert torch.equal(item["image"], chw(expected))
    expected = np.full((384, 384, 3), 128, np.uint8)
    expected[:height, :width] = sar[:384, :384]
    assert torch.equal(item["sar_image"], chw(expected))
    for mask in ("image_valid", "sar_valid"):
        assert item[mask].shape == (384, 384) and item[mask].all()


def test_pixels_without_data_and_padding_count_as_valid(cfg, make_sample):
    sample, _, sar = make_sample(60, 80, nodata=7)
    assert not build_dataset_mapper(cfg, False)(sample)["sar_valid"].all()
    cfg.INPUT.RELEASED_GEOMETRY = True
    item = build_dataset_mapper(cfg, False)(sample)
    assert item["sar_valid"].all() and item["image_valid"].all()
    assert (item["sar_image"][:, :60, :80].numpy()[:, (sar == 7).any(axis=2)] == 0).all()


def test_by_default_images_are_as_in_the_files(cfg, make_sample):
    sample, rgb, sar = make_sample(301, 500)
    item = build_dataset_mapper(cfg, False)(sample)
    assert torch.equal(item["image"], chw(rgb)) and torch.equal(item["sar_image"], chw(sar))


def test_a_preview_shows_the_files(cfg, make_sample):
    sample, rgb, sar = make_sample(30, 50)
    cfg.INPUT.RELEASED_GEOMETRY = True
    row = read_panel_row(cfg, sample, Metadata())
    np.testing.assert_array_equal(row.rgb, rgb)
    np.testing.assert_array_equal(row.sar, sar)


def test_it_is_for_evaluation_with_the_published_mapper_only(cfg):
    cfg.INPUT.RELEASED_GEOMETRY = True
    cfg.DATASETS.TRAIN = ()
    cfg.INPUT.MIN_SIZE_TEST = 384
    with pytest.raises(ConfigError, match=r"INPUT\.MIN_SIZE_TEST is 384, but INPUT\.RELEASED_GEOMETRY"):
        build_dataset_mapper(cfg, False)
    cfg.INPUT.MIN_SIZE_TEST = 0
    with pytest.raises(ConfigError, match=r"INPUT\.RELEASED_GEOMETRY is on, which is for evaluation only"):
        build_dataset_mapper(cfg, True)
    cfg.INPUT.DATASET_MAPPER_NAME = "rgb_sar_pair"
    with pytest.raises(ConfigError, match="'rgb_sar_pair', but INPUT.RELEASED_GEOMETRY is for rgb_sar_semantic only"):
        build_dataset_mapper(cfg, False)
    DATASET_MAPPER_REGISTRY._do_register("mine", lambda cfg, is_train: str)
    try:
        cfg.INPUT.DATASET_MAPPER_NAME = "mine"
        with pytest.raises(ConfigError, match="'mine', but INPUT.RELEASED_GEOMETRY"):
            build_dataset_mapper(cfg, False)
    finally:
        DATASET_MAPPER_REGISTRY._obj_map.pop("mine")
