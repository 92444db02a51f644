"""Pairs that lose an image: in training at random and with their labels, in evaluation always."""

from dataclasses import replace

import numpy as np
import pytest

from mm_ovseg.data import build_dataset_mapper
from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.data.modality_dropout import ModalityDropout, build_modality_dropout
from mm_ovseg.errors import ConfigError


def pair():
    everywhere = np.ones((4, 5), bool)
    label = np.arange(20, dtype=np.uint8).reshape(4, 5)
    return PairSample(np.full((4, 5, 3), 7, np.uint8), everywhere, np.full((4, 5, 3), 9, np.float32), everywhere, label)


def kept(sample):
    """The images that are there, and that the others are blank."""
    found = []
    for name, image, valid in (
        ("rgb", sample.image, sample.image_valid),
        ("sar", sample.sar_image, sample.sar_valid),
    ):
        assert image.any() == image.all() == valid.any() == valid.all() and image.shape == (4, 5, 3)
        found += [name] if valid.any() else []
    np.testing.assert_array_equal(sample.sem_seg, pair().sem_seg)
    return " ".join(found)


def test_an_image_is_left_out_as_often_as_asked_for_and_never_both():
    np.random.seed(0)
    dropout, original = ModalityDropout(0.3, 0.2), pair()
    draws = [kept(dropout(original)) for _ in range(1000)]
    shares = {what: draws.count(what) / 1000 for what in ("sar", "rgb", "rgb sar")}
    assert shares == pytest.approx({"sar": 0.3, "rgb": 0.2, "rgb sar": 0.5}, abs=0.05)
    assert kept(original) == "rgb sar"
    np.random.seed(0)
    assert [kept(dropout(original)) for _ in range(1000)] == draws
    assert {kept(ModalityDropout(0.5, 0.5)(original)) for _ in range(50)} == {"rgb", "sar"}


def test_a_pair_that_lacks_one_image_keeps_the_other():
    nowhere, zeros = np.zeros((4, 5), bool), np.zeros((4, 5, 3), np.float32)
    without_sar = replace(pair(), sar_image=zeros, sar_valid=nowhere)
    without_rgb = replace(pair(), image=zeros.astype(np.uint8), image_valid=nowhere)
    dropout = ModalityDropout(0.5, 0.5)
    assert {kept(dropout(without_sar)) for _ in range(20)} == {"rgb"}
    assert {kept(dropout(without_rgb)) for _ in range(20)} == {"sar"}


def test_by_default_nothing_is_left_out_and_nothing_is_drawn(cfg):
    assert build_modality_dropout(cfg, True) is build_modality_dropout(cfg, False) is None


@pytest.mark.parametrize("modalities", ["rgb", "sar"])
def test_evaluation_may_show_one_image_alone_whatever_training_does(cfg, modalities):
    cfg.TEST.MODALITIES, cfg.INPUT.DROP_RGB = modalities, 0.1
    dropout = build_modality_dropout(cfg, False)
    assert {kept(dropout(pair())) for _ in range(50)} == {modalities}
    assert build_modality_dropout(cfg, True).drop_rgb == 0.1


@pytest.mark.parametrize("drop_rgb,drop_sar", [(-0.1, 0.0), (0.0, 1.1), (0.6, 0.5), (float("nan"), 0.0)])
def test_probabilities_that_are_none_are_refused(cfg, drop_rgb, drop_sar):
    cfg.INPUT.DROP_RGB, cfg.INPUT.DROP_SAR = drop_rgb, drop_sar
    with pytest.raises(ConfigError, match=r"INPUT\.DROP_RGB is .* and INPUT\.DROP_SAR .*at most 1"):
        build_modality_dropout(cfg, True)


def test_what_stage_1_and_unknown_modalities_say(cfg):
    cfg.INPUT.DATASET_MAPPER_NAME = "rgb_sar_pair"
    for key, value in (("DROP_RGB", 0.2), ("DROP_SAR", 0.2)):
        changed = cfg.clone()
        changed.INPUT[key] = value
        with pytest.raises(ConfigError, match=rf"INPUT\.{key} is for rgb_sar_semantic only; set it to 0"):
            build_dataset_mapper(changed, True)
    cfg.TEST.MODALITIES = "rgb"
    with pytest.raises(ConfigError, match=r"TEST\.MODALITIES is for rgb_sar_semantic only; set it to both"):
        build_dataset_mapper(cfg, False)
    cfg.TEST.MODALITIES = "radar"
    with pytest.raises(ConfigError, match=r"TEST\.MODALITIES is 'radar'; choose one of both, rgb, sar"):
        build_modality_dropout(cfg, False)
