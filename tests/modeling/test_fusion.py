import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone import EncoderFeatures
from mm_ovseg.modeling.encoders import FeatureProjection, scale_layer
from mm_ovseg.modeling.fusion import CostVolumeEmbedding, cost_volume


@pytest.mark.parametrize("in_size,out_size", [(48, 24), (24, 24), (24, 48), (24, 96)])
def test_one_layer_brings_a_grid_to_another(in_size, out_size):
    layer = scale_layer(3, 5, in_size, out_size)
    assert layer(torch.zeros(1, 3, in_size, in_size)).shape == (1, 5, out_size, out_size)


def test_a_grid_that_does_not_divide_is_a_config_error():
    with pytest.raises(ConfigError, match="36 tokens"):
        scale_layer(3, 5, 36, 24)


def test_the_features_of_two_encoders_are_added():
    torch.manual_seed(0)
    shape = {
        "dense": ShapeSpec(channels=4, height=8),
        "coarse": ShapeSpec(channels=7, height=8),
        "fine": ShapeSpec(channels=7, height=8),
    }
    arguments = {"input_shape": shape, "dense_channels": 6, "guidance_channels": [5, 3], "dense_size": 4}
    rgb, sar = FeatureProjection(**arguments), FeatureProjection(**arguments)
    maps = [torch.randn(2, channels, 8, 8) for channels in (4, 7, 7)]
    features = EncoderFeatures(maps[0], (maps[1], maps[2]))
    both = rgb(features) + sar(features)
    assert both.dense.shape == (2, 6, 4, 4)
    assert [guide.shape for guide in both.guidance] == [(2, 5, 8, 8), (2, 3, 16, 16)]
    torch.testing.assert_close(both.dense, rgb.dense(maps[0]) + sar.dense(maps[0]))
    torch.testing.assert_close(both.guidance[1], rgb.fine(maps[2]) + sar.fine(maps[2]))


def test_each_image_may_have_text_of_its_own():
    dense, text = torch.randn(2, 5, 3, 4), F.normalize(torch.randn(2, 1, 6, 5), dim=-1)
    apart = [cost_volume(dense[image, None], text[image]) for image in range(2)]
    torch.testing.assert_close(cost_volume(dense, text), torch.cat(apart))


def test_cost_volume_is_the_cosine_of_every_patch_class_and_template():
    dense, text = torch.randn(2, 5, 3, 4) * 7, F.normalize(torch.randn(2, 6, 5), dim=-1)
    cost = cost_volume(dense, text)
    assert cost.shape == (2, 2, 6, 3, 4)
    expected = F.cosine_similarity(dense[1, :, 2, 3], text[1, 4], dim=0)
    torch.testing.assert_close(cost[1, 1, 4, 2, 3], expected)


def test_embedding_follows_the_formula():
    torch.manual_seed(0)
    embedding = CostVolumeEmbedding(templates=2, width=4, kernel_size=3, with_dino=True)
    clip, dino = torch.randn(2, 2, 3, 6, 6), torch.randn(2, 2, 3, 6, 6)
    clip_class = embedding.clip(clip[1, :, 2][None]).sigmoid()
    dino_class = embedding.dino(dino[1, :, 2][None]).sigmoid()
    expected = embedding.fuse(torch.cat([clip_class, dino_class], dim=1)).sigmoid() + clip_class
    torch.testing.assert_close(embedding(clip, dino)[1, 2], expected[0], rtol=1e-4, atol=1e-5)


def test_without_dino_it_is_one_convolution():
    embedding = CostVolumeEmbedding(templates=1, width=4, kernel_size=3, with_dino=False)
    clip = torch.randn(2, 1, 3, 6, 6)
    torch.testing.assert_close(embedding(clip, None)[0, 1], embedding.clip(clip[0, :, 1][None])[0])


def test_features_add_in_both_kinds():
    first = EncoderFeatures(torch.ones(1), (torch.ones(1), torch.ones(1)))
    total = first + first
    assert total.dense.item() == 2 and [guide.item() for guide in total.guidance] == [2, 2]
