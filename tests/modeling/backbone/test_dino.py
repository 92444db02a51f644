import pytest
import timm
import torch

from mm_ovseg.errors import CheckpointError, ConfigError
from mm_ovseg.modeling.backbone.dino import DINOEncoder

ARGUMENTS = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "drop_path_rate": 0.5}


def build(frozen=True, **changes):
    arguments = {
        "name": "vit_tiny_patch16_224",
        "arguments": ARGUMENTS,
        "weights": "",
        "image_size": 64,
        "blocks": [1, 2, 3],
        "pixel_mean": (120.0, 115.0, 100.0),
        "pixel_std": (60.0, 61.0, 62.0),
        **changes,
    }
    torch.manual_seed(0)
    encoder = DINOEncoder(**arguments)
    if frozen:
        encoder.freeze()
    return encoder


def test_blocks_come_normalised_in_the_order_asked_for():
    encoder, images = build(blocks=[3, 1]), torch.randn(2, 3, 64, 64)
    features = encoder(images)
    first, (last,) = features.dense, features.guidance
    assert last.shape == first.shape == (2, 24, 8, 8)
    tokens = encoder.model.forward_features(images)[:, 1:]  # timm's own: the last block, normalised
    torch.testing.assert_close(last, tokens.transpose(1, 2).reshape(2, 24, 8, 8), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(last, first)


def test_a_frozen_encoder_learns_nothing_and_stays_in_evaluation_mode():
    encoder, images = build().train(), torch.randn(1, 3, 64, 64)
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    first, second = encoder(images).dense, encoder(images).dense
    assert torch.equal(first, second) and not first.requires_grad


def test_an_encoder_that_learns_has_gradients_and_a_training_mode():
    encoder = build(frozen=False).train()
    assert encoder.model.training
    encoder(torch.randn(1, 3, 64, 64)).dense.sum().backward()
    assert encoder.model.patch_embed.proj.weight.grad is not None


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"teacher": {f"module.backbone.{key}": value for key, value in state.items()}},
    lambda state: {"model": {f"student.model.{key}": value for key, value in state.items()}
                   | {f"teacher.model.{key}": value * 0 for key, value in state.items()}, "iteration": 3},
    lambda state: {**state, "head.weight": torch.zeros(10, 24), "head.bias": torch.zeros(10)},
])  # fmt: skip
def test_weights_are_found_under_the_names_that_trainings_give_them(tmp_path, wrap):
    torch.manual_seed(5)
    source = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, **ARGUMENTS)
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pth")
    encoder = build(weights=str(tmp_path / "weights.pth"))
    for key, value in source.state_dict().items():
        assert torch.equal(encoder.model.state_dict()[key], value), key


def test_dinov3_loads_as_it_is_published(tmp_path):
    name, arguments = "vit_small_patch16_dinov3_qkvb", {"embed_dim": 64, "depth": 2, "num_heads": 1}
    source = build(name=name, arguments=arguments, blocks=[2])
    published = {"rope_embed.periods": torch.ones(16), "mask_token": torch.zeros(1, 64)}
    for key, value in source.model.state_dict().items():
        if key.endswith("q_bias"):
            key_and_value = (torch.full_like(value, 7.0), source.model.state_dict()[key.replace("q_bias", "v_bias")])
            published[key.replace("q_bias", "qkv.bias")] = torch.cat([value, *key_and_value])
        elif not key.endswith("v_bias"):
            for ours, theirs in (("reg_token", "storage_tokens"), ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")):
                key = key.replace(ours, theirs)
            published[key] = value
    torch.save({"teacher": {f"backbone.{key}": value for key, value in published.items()}}, tmp_path / "dinov3.pth")
    torch.manual_seed(9)
    images = torch.randn(1, 3, 64, 64)
    loaded = build(name=name, arguments=arguments, blocks=[2], weights=str(tmp_path / "dinov3.pth"))
    assert torch.equal(loaded(images).dense, source(images).dense)
    del published["storage_tokens"]
    torch.save({**published, "storage_tokens": torch.zeros(1, 4, 8)}, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=r"wrong\.pth .*reg_token is \(1, 4, 8\), not \(1, 4, 64\)"):
        build(name=name, arguments=arguments, blocks=[2], weights=str(tmp_path / "wrong.pth"))


def test_a_whole_published_model_is_no_encoder(released_catseg):
    with pytest.raises(
        CheckpointError, match=r"released\.pth holds CAT-Seg ViT-B/16, a whole model; give it as MODEL\.W"
    ):
        build(weights=str(released_catseg))


def test_a_positional_embedding_of_another_grid_is_resized(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, **ARGUMENTS)
    state = {**source.state_dict(), "pos_embed": torch.ones_like(source.pos_embed)}
    torch.save(state, tmp_path / "small.pth")
    encoder = build(weights=str(tmp_path / "small.pth"))
    torch.testing.assert_close(encoder.model.pos_embed, torch.ones(1, 65, 24))


def test_bad_weights_are_named_with_what_does_not_fit(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pth.*does not exist"):
        build(weights=str(tmp_path / "gone.pth"))
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        build(weights=str(tmp_path / "cut.pth"))
    other = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, **{**ARGUMENTS, "embed_dim": 48})
    torch.save(other.state_dict(), tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match=r"wide\.pth.*another architecture.*of another shape"):
        build(weights=str(tmp_path / "wide.pth"))


def test_a_model_or_block_that_does_not_exist_is_a_config_error():
    with pytest.raises(ConfigError, match="vit_imaginary"):
        build(name="vit_imaginary")
    with pytest.raises(ConfigError, match="which has 3"):
        build(blocks=[1, 2, 12])
    with pytest.raises(ConfigError, match="not a ViT"):
        build(name="swin_tiny_patch4_window7_224", arguments={}, image_size=224)
