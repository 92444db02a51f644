import numpy as np
import pytest
from detectron2.data import transforms as T

from mm_ovseg.data.augmentation import (
    ColorJitter,
    PadToSize,
    PairAugmentation,
    PairSample,
    ResizeShortestSide,
    Speckle,
    build_augmentations,
)
from mm_ovseg.errors import ConfigError


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)


def position_pattern(height=40, width=60):
    """A pair whose every pixel holds its row and column, in RGB, SAR and (folded) label alike."""
    rows, columns = np.mgrid[:height, :width]
    image = np.dstack([rows + 50, columns + 50, np.full_like(rows, 9)]).astype(np.uint8)
    label = ((rows * 7 + columns * 3) % 11).astype(np.uint8)
    valid = np.ones((height, width), dtype=bool)
    valid[3, 5] = False
    image[3, 5] = 0
    return PairSample(image, valid, image.astype(np.float32), valid.copy(), label)


def folded(image):
    rows, columns = image[..., 0].astype(int) - 50, image[..., 1].astype(int) - 50
    return (rows * 7 + columns * 3) % 11


def train_config(cfg, crop=(24, 32), flip="both"):
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.SIZE = list(crop)
    cfg.INPUT.RANDOM_FLIP = flip
    return cfg


def test_crops_flips_and_padding_move_all_arrays_alike(cfg):
    augment = build_augmentations(train_config(cfg, crop=(48, 32)), is_train=True)
    corners = set()
    for _ in range(40):
        pair = augment(position_pattern())
        assert pair.image.shape == pair.sar_image.shape == (48, 32, 3)
        np.testing.assert_array_equal(pair.image, pair.sar_image)
        np.testing.assert_array_equal(pair.image_valid, pair.sar_valid)
        padded = pair.sem_seg == 255
        assert padded.sum() == 8 * 32 and not pair.image_valid[padded].any() and (pair.image[padded] == 0).all()
        shown = pair.image_valid
        np.testing.assert_array_equal(pair.sem_seg[shown], folded(pair.image)[shown])
        assert 40 * 32 - shown.sum() in (0, 1)
        corners.add(tuple(pair.image[shown][0]))
    assert len(corners) > 10  # the geometry is drawn anew every time


@pytest.mark.parametrize("size", [25, 40, 90])
def test_resizing_moves_all_arrays_alike(cfg, size):
    cfg.INPUT.MIN_SIZE_TRAIN = (size,)
    blocks = np.kron(np.arange(6).reshape(2, 3), np.ones((20, 20))).astype(np.uint8)  # (40, 60), one class a block
    image = np.dstack([blocks * 40 + 20] * 3).astype(np.uint8)
    valid = np.ones(blocks.shape, dtype=bool)
    sample = PairSample(image, valid, image.astype(np.float32), valid.copy(), blocks)
    pair = build_augmentations(cfg, is_train=True)(sample)
    assert pair.image.shape == pair.sar_image.shape == (size, round(size * 1.5), 3)
    assert pair.sar_image.dtype == np.float32 and pair.image.dtype == np.uint8
    # The same filter for both, so that they differ by the rounding of uint8 only, edges included.
    np.testing.assert_allclose(pair.image.astype(float), pair.sar_image, atol=1.01)
    agrees = np.rint((pair.sar_image[..., 0] - 20) / 40) == pair.sem_seg
    assert agrees.mean() > 0.9 and pair.image_valid.all()


def test_shrinking_smooths_both_images():
    checkerboard = np.indices((64, 64)).sum(axis=0) % 2 * 200
    image = np.dstack([checkerboard] * 3).astype(np.uint8)
    valid = np.ones((64, 64), dtype=bool)
    augment = PairAugmentation([ResizeShortestSide((16,), 100, "choice")])
    pair = augment(PairSample(image, valid, image.astype(np.float32), valid))
    assert np.abs(pair.image.astype(float) - 100).max() < 3
    assert np.abs(pair.sar_image - 100).max() < 3


def test_flips_follow_the_config(cfg):
    sample = position_pattern(8, 8)
    orientations = {}
    for flip in ("none", "horizontal", "vertical", "both"):
        augment = build_augmentations(train_config(cfg, crop=(8, 8), flip=flip), is_train=True)
        orientations[flip] = {tuple(augment(sample).sar_image[0, 0, :2]) for _ in range(40)}
    assert orientations["none"] == {(50, 50)}
    assert orientations["horizontal"] == {(50, 50), (50, 57)}
    assert orientations["vertical"] == {(50, 50), (57, 50)}
    assert len(orientations["both"]) == 4


def test_jitter_changes_rgb_only_and_speckle_sar_only(cfg):
    sample = position_pattern()
    cfg.INPUT.COLOR_AUG_SSD = True
    pairs = [build_augmentations(cfg, is_train=True)(sample) for _ in range(10)]
    assert all((pair.sar_image == sample.sar_image).all() for pair in pairs)
    assert sum((pair.image != sample.image).any() for pair in pairs) > 5
    assert all((pair.image[3, 5] == 0).all() for pair in pairs)  # no data stays no data

    cfg.INPUT.COLOR_AUG_SSD = False
    cfg.INPUT.SAR.SPECKLE_LOOKS = 4.0
    pair = build_augmentations(cfg, is_train=True)(sample)
    np.testing.assert_array_equal(pair.image, sample.image)
    assert (pair.sar_image != sample.sar_image).any()
    assert (pair.sar_image[3, 5] == 0).all()
    np.testing.assert_array_equal(pair.sem_seg, sample.sem_seg)


def test_evaluation_changes_nothing_unless_asked(cfg):
    train_config(cfg).INPUT.COLOR_AUG_SSD = True
    cfg.INPUT.SAR.SPECKLE_LOOKS = 1.0
    sample = position_pattern()
    pair = build_augmentations(cfg, is_train=False)(sample)
    np.testing.assert_array_equal(pair.image, sample.image)
    np.testing.assert_array_equal(pair.sar_image, sample.sar_image)
    cfg.INPUT.MIN_SIZE_TEST = 20
    assert build_augmentations(cfg, is_train=False)(sample).sar_image.shape == (20, 30, 3)


def test_jitter_is_of_the_colour_not_of_the_place():
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    image[:, :3], image[:, 3:] = (180, 90, 40), (40, 110, 60)
    seen = set()
    for _ in range(50):
        changed = ColorJitter()(image)
        assert changed.dtype == np.uint8
        colors = np.unique(changed.reshape(-1, 3), axis=0)
        assert len(colors) == 2 and (changed[:, :3] == changed[0, 0]).all()
        seen.add(tuple(changed[0, 0]))
    assert len(seen) > 25


def test_jitter_keeps_within_its_limits():
    class Brightness(ColorJitter):
        CONTRAST = SATURATION = (1.0, 1.0)
        HUE = 0

    grey = np.full((1, 1, 3), 100, dtype=np.uint8)
    values = [int(Brightness()(grey)[0, 0, 0]) for _ in range(300)]
    assert 68 <= min(values) < 75 and 125 < max(values) <= 132
    assert 0.4 < np.mean([value == 100 for value in values]) < 0.6


@pytest.mark.parametrize("looks", [1.0, 4.0])
def test_speckle_is_gamma_in_power_on_either_scale(looks):
    decibel = np.full((200, 200, 3), 150.0, dtype=np.float32)  # of a range of 100 dB, so that nothing is clipped
    speckled = Speckle(looks, "db", (-60, 40))(decibel)
    power = 10 ** ((speckled[..., 0] - 150) / 255 * 100 / 10)
    assert power.mean() == pytest.approx(1, abs=0.03) and power.var() == pytest.approx(1 / looks, rel=0.1)

    amplitude = np.full((200, 200, 3), 30.0, dtype=np.float32)
    power = (Speckle(looks, "8bit", (-60, 40))(amplitude)[..., 0] / 30) ** 2
    assert power.mean() == pytest.approx(1, abs=0.03) and power.var() == pytest.approx(1 / looks, rel=0.1)


def test_speckle_keeps_equal_channels_equal_and_the_range():
    for scale in ("8bit", "power"):
        speckled = Speckle(0.05, scale, (-25, 0))(np.full((50, 50, 3), 200, dtype=np.float32))
        assert np.isfinite(speckled).all() and speckled.min() >= 0 and speckled.max() <= 255
        assert speckled.dtype == np.float32
        np.testing.assert_array_equal(speckled[..., 0], speckled[..., 2])


def test_padding_only_where_smaller():
    pad = PadToSize(4, 8, ignore_label=254).get_transform(np.zeros((6, 5, 3)))
    assert pad.apply_image(np.ones((6, 5, 3))).shape == (6, 8, 3)
    assert (pad.apply_segmentation(np.ones((6, 5)))[:, 5:] == 254).all()
    assert isinstance(PadToSize(4, 4, 255).get_transform(np.zeros((6, 5, 3))), T.NoOpTransform)


@pytest.mark.parametrize(
    ("key", "value"),
    [("RANDOM_FLIP", "diagonal"), ("CROP.TYPE", "relative"), ("MIN_SIZE_TRAIN_SAMPLING", "range")],
)
def test_wrong_settings_name_their_key(cfg, key, value):
    cfg.INPUT.CROP.ENABLED = True
    cfg.merge_from_list([f"INPUT.{key}", value])
    with pytest.raises(ConfigError, match=rf"INPUT\.{key} is '{value}'"):
        build_augmentations(cfg, is_train=True)


@pytest.mark.parametrize("scale", ["8bit", "db"])
def test_each_polarisation_has_speckle_of_its_own(scale):
    """As the sensor gives it; the third channel of two stays their mean."""
    vv, vh = np.full((80, 80), 120, np.float32), np.full((80, 80), 60, np.float32)
    speckled = Speckle(4, scale, (-40, 10))(np.dstack([vv, vh, (vv + vh) / 2]))
    assert abs(np.corrcoef(speckled[..., 0].ravel(), speckled[..., 1].ravel())[0, 1]) < 0.05
    np.testing.assert_allclose(speckled[..., 2], speckled[..., :2].mean(axis=2), rtol=1e-5)
