from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from laptop.drawn_world import SYNTHETIC_CLASSES, write_synthetic_dataset
from laptop.pretraining import LabelledScenes
from mm_ovseg.data import register_rgb_sar_dataset
from mm_ovseg.errors import DataError


@pytest.fixture
def scenes(tmp_path):
    write_synthetic_dataset(tmp_path / "world", num_train=2, num_val=0, size=64)
    for name, labels in (("crops_labelled", "labels"), ("crops_unlabelled", None)):
        register_rgb_sar_dataset(
            name, root=tmp_path / "world" / "train", rgb="rgb", sar="sar", labels=labels, classes=SYNTHETIC_CLASSES
        )
    yield LabelledScenes("crops_labelled")
    for name in ("crops_labelled", "crops_unlabelled"):
        DatasetCatalog.remove(name)


def test_crops_are_windows_with_the_shares_of_their_classes(scenes):
    # Colours of our own: each class has one, so that a crop's shares can be read off its pixels.
    scenes.images = [torch.from_numpy(np.stack([label] * 3)) for label in scenes.labels]
    crops = list(islice(scenes.crops(24, np.random.default_rng(0)), 30))
    for crop, shares in crops:
        assert crop.shape == (3, 24, 24) and crop.dtype == torch.uint8
        np.testing.assert_allclose(np.bincount(crop[0].numpy().ravel(), minlength=5) / 24**2, shares)
        assert shares.sum() == pytest.approx(1)
    again = list(islice(scenes.crops(24, np.random.default_rng(0)), 30))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(crops, again, strict=True))
    assert len({crop.numpy().tobytes() for crop, _ in crops}) > 20


def test_what_cannot_be_cropped_or_captioned_is_named(scenes):
    with pytest.raises(DataError, match="65 pixels.*64"):
        next(scenes.crops(65, np.random.default_rng(0)))
    with pytest.raises(DataError, match="has no label"):
        LabelledScenes("crops_unlabelled")
