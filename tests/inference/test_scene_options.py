import pytest
from detectron2.config import get_cfg

from mm_ovseg import add_mm_ovseg_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.scene_options import SceneOptions, check_options


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_mm_ovseg_config(cfg)
    return cfg


def test_overlap_is_a_share_of_the_window(cfg):
    for overlap, window, pixels in ((0.33, 384, 127), (0, 5, 0)):
        assert check_options(SceneOptions(overlap=overlap, window=window), cfg).overlap_pixels == pixels
    for overlap in (-0.1, 1.0, 0.999, float("nan")):
        with pytest.raises(ConfigError, match="share of the window"):
            check_options(SceneOptions(overlap=overlap, window=64), cfg)
    with pytest.raises(ConfigError, match="positive"):
        check_options(SceneOptions(window=0), cfg)


@pytest.mark.parametrize("share", [-0.1, 10, float("nan")])
def test_the_covered_share_is_a_share(cfg, share):
    with pytest.raises(ConfigError, match=f"--min-covered is {share}; give a share from 0 to 1"):
        check_options(SceneOptions(min_covered=share), cfg)


def test_a_window_is_as_large_as_a_training_crop_unless_it_is_given(cfg):
    assert check_options(SceneOptions(), cfg).window == cfg.INPUT.CROP.SIZE[0]
    assert check_options(SceneOptions(window=64), cfg).window == 64
