"""Convolutional encoders: timm's stages without batch normalisation, and a CLIP of them."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from mm_ovseg.engine import load_config
from mm_ovseg.errors import CheckpointError, ConfigError
from mm_ovseg.modeling.backbone.convolutional import (
    ConvolutionalCLIP,
    ConvolutionalEncoder,
    FeaturePyramid,
    fold_batch_norms,
)
from mm_ovseg.modeling.meta_arch.cmu import CrossModalUnification
from mm_ovseg.shipped import shipped_path

STATISTICS = {"image_size": 64, "pixel_mean": [127.5] * 3, "pixel_std": [127.5] * 3}
STAGES = {"out_indices": [0, 1, 3], "output_stride": 8}


def build_encoder(weights: str = "", blocks=(2, 1, 3), name="test_efficientnet", arguments=STAGES, **changes):
    return ConvolutionalEncoder(
        name=name, arguments=arguments, weights=weights, blocks=blocks, **{**STATISTICS, **changes}
    )


def build_clip(weights: str = "", with_text: bool = True) -> ConvolutionalCLIP:
    return ConvolutionalCLIP(
        name="EfficientNet-Lite0-sentinel",
        arguments=STAGES,
        weights=weights,
        blocks=(2, 1, -1),
        with_text=with_text,
        **STATISTICS,
    )


@pytest.mark.parametrize("name", ["test_efficientnet", "resnet18", "tf_efficientnet_lite0"])
@torch.no_grad()
def test_folding_batch_norms_changes_no_output(name):
    torch.manual_seed(0)
    model = timm.create_model(name, features_only=True, out_indices=(0, 1, 3)).eval()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.bias.normal_(std=0.1)
    images = torch.randn(2, 3, 64, 64)
    expected = model(images)
    fold_batch_norms(model)
    assert norms and not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    for ours, theirs in zip(model(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_maps_have_the_shapes_that_output_shape_promises():
    encoder = build_encoder()
    features = encoder(encoder.preprocess([torch.rand(3, 40, 50) * 255] * 2))
    shapes = encoder.output_shape()
    for name, feature in zip(("coarse", "fine", "dense"), (*features.guidance, features.dense), strict=True):
        assert feature.shape == (2, shapes[name].channels, shapes[name].height, shapes[name].width), name
    assert [shapes[name].stride for name in ("fine", "coarse", "dense")] == [2, 4, 8]


def test_stages_behind_the_last_one_are_removed():
    whole = sum(parameter.numel() for parameter in timm.create_model("tf_efficientnet_lite0").parameters())
    pyramid = FeaturePyramid("tf_efficientnet_lite0", STAGES)
    assert sum(parameter.numel() for parameter in pyramid.parameters()) < whole / 5


@torch.no_grad()
def test_weights_come_from_a_file_with_the_normalisation_of_the_last_stage(tmp_path):
    encoder = build_encoder()
    encoder.model.norm.running_mean.fill_(3.0)
    save_file(encoder.model.state_dict(), tmp_path / "dense.safetensors")
    loaded = build_encoder(str(tmp_path / "dense.safetensors"))
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(image).dense, encoder(image).dense)
    assert not torch.equal(build_encoder()(image).dense, encoder(image).dense)


@torch.no_grad()
def test_clip_loads_image_and_text_towers_and_the_mean_of_its_map_is_comparable_with_text(tmp_path):
    clip = build_clip()
    text_tower, tokenizer = clip.take_text_encoder()
    tensors = {f"visual.{name}": value for name, value in clip.state_dict().items()}
    tensors |= {f"text.{name}": value for name, value in text_tower.state_dict().items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "clip.safetensors")
    loaded = build_clip(str(tmp_path / "clip.safetensors"))
    loaded_tower, _ = loaded.take_text_encoder()
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(image).dense, clip(image).dense)
    tokens = tokenizer(["a salt lake"])
    assert loaded_tower(tokens).shape == (1, clip(image).dense.shape[1])
    torch.testing.assert_close(loaded_tower(tokens), text_tower(tokens))


def test_misfits_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="1 to 3"):
        build_encoder(blocks=(2, 4, 3))
    with pytest.raises(ConfigError, match="last one last"):
        build_encoder(blocks=(3, 2, 1))
    with pytest.raises(ConfigError, match="multiple of its stride, 8"):
        build_encoder(image_size=60)
    with pytest.raises(ConfigError, match="timm cannot build"):
        build_encoder(name="no_such_network")
    with pytest.raises(ConfigError, match="timm cannot build"):
        build_encoder(arguments={"out_indices": [9]})
    with pytest.raises(ConfigError, match="timm_model_name"):
        ConvolutionalCLIP(name="ViT-B-16", arguments={}, weights="", blocks=(2, 1, -1), **STATISTICS)
    save_file({"stages.other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="another architecture"):
        build_encoder(str(tmp_path / "other.safetensors"))


def test_query_and_value_training_is_refused():
    with pytest.raises(ConfigError, match="set 'none'"):
        load_and_build("MODEL.CLIP.FINETUNE", "query_value")


def load_and_build(*overrides: str):
    from detectron2.modeling import META_ARCH_REGISTRY

    cfg = load_config(
        shipped_path("configs/sentinel/base.yaml"), ["MODEL.DEVICE", "cpu", *overrides], needs_datasets=False
    )
    return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)


def test_stage_1_compares_stages_of_different_grids():
    torch.manual_seed(0)
    model = load_and_build("MODEL.META_ARCHITECTURE", "CrossModalUnification")
    assert isinstance(model, CrossModalUnification)
    pairs = [{"image": torch.rand(3, 112, 112) * 255, "sar_image": torch.rand(3, 112, 112) * 255} for _ in range(2)]
    loss = model.train()(pairs)["loss_alignment"]
    loss.backward()
    assert loss.item() > 0
    trained = {name.rpartition(".")[2] for name, p in model.student.named_parameters() if p.grad is not None}
    assert trained == {"weight"} and all(p.grad is not None for p in model.student.parameters() if p.requires_grad)
    tokens = model.eval()(pairs)[0]
    assert {tuple(block.shape)[0] for block in tokens["image_tokens"]} == {14 * 14}
