import open_clip
import pytest
import torch
import torch.nn.functional as F

from mm_ovseg.errors import CheckpointError, ConfigError
from mm_ovseg.modeling.backbone.clip import CLIPImageEncoder, SelfAttention, build_clip, set_clip_trainable

NAME = "ViT-quickstart-16"
STATISTICS = {"pixel_mean": (120.0, 115.0, 100.0), "pixel_std": (60.0, 61.0, 62.0)}


def build_encoder(**changes):
    torch.manual_seed(0)
    arguments = {"name": NAME, "arguments": {}, "weights": "", "image_size": 192, "blocks": [1, 3, 4], **STATISTICS}
    return CLIPImageEncoder(**{**arguments, **changes}).eval()


@torch.no_grad()
def test_splitting_the_projections_changes_no_output():
    torch.manual_seed(0)
    whole = open_clip.create_model(NAME, force_custom_text=True).eval()
    torch.manual_seed(0)
    visual, text, tokenizer = build_clip(NAME, "")
    assert sum(isinstance(module, SelfAttention) for module in visual.modules()) == 4
    tokens, image = tokenizer(["a photo of water", "road"]), torch.randn(2, 3, 192, 192)
    torch.testing.assert_close(text.eval()(tokens), whole.encode_text(tokens), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(visual.eval()(image), whole.encode_image(image), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_guidance_blocks_are_open_clips_own_intermediates():
    encoder = build_encoder()
    images = torch.randn(2, 3, 192, 192)
    features = encoder(images)
    expected = encoder.visual.forward_intermediates(images, indices=[0, 2], intermediates_only=True)
    assert features.dense.shape == (2, 64, 12, 12)
    for ours, theirs in zip(features.guidance, expected["image_intermediates"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_guidance_comes_in_the_order_asked_for():
    images = torch.randn(1, 3, 192, 192)
    guidance, reversed_guidance = (build_encoder(blocks=blocks)(images).guidance for blocks in ([1, 3, -1], [3, 1, 4]))
    assert torch.equal(guidance[0], reversed_guidance[1]) and torch.equal(guidance[1], reversed_guidance[0])


@torch.no_grad()
def test_last_block_keeps_the_value_path_and_adds_the_class_token():
    encoder = build_encoder()
    visual, images = encoder.visual, torch.randn(1, 3, 192, 192)
    x = visual._embeds(images)
    for block in visual.transformer.resblocks[:-1]:
        x = block(x)
    last = visual.transformer.resblocks[-1]
    attention = last.attn
    value = F.linear(last.ln_1(x), attention.value.weight, attention.value.bias)
    value = F.linear(value, attention.output.weight, attention.output.bias) + x[:, :1]
    expected = visual.ln_post(value + last.mlp(last.ln_2(value))) @ visual.proj
    expected = expected[:, 1:].transpose(1, 2).reshape(1, 64, 12, 12)
    torch.testing.assert_close(encoder(images).dense, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_another_image_size_resizes_the_positional_embedding():
    encoder = build_encoder(image_size=256)
    dense = encoder(encoder.preprocess([torch.rand(3, 100, 60) * 255])).dense
    assert dense.shape == (1, 64, 16, 16)
    assert {name: (shape.channels, shape.height, shape.stride) for name, shape in encoder.output_shape().items()} == {
        "dense": (64, 16, 16),
        "coarse": (encoder.visual.transformer.width, 16, 16),
        "fine": (encoder.visual.transformer.width, 16, 16),
    }


def test_preprocess_normalises_resizes_and_stacks_images_of_any_type_and_size():
    encoder = build_encoder()
    plain = torch.full((3, 50, 70), 120, dtype=torch.uint8)
    images = encoder.preprocess([plain, torch.full((3, 192, 192), 120.0)])
    assert images.shape == (2, 3, 192, 192)
    expected = torch.tensor([0.0, 5 / 61, 20 / 62])
    torch.testing.assert_close(images.mean(dim=(2, 3)), expected.expand(2, 3))


def test_query_and_value_weights_learn_and_nothing_else():
    visual, _, _ = build_clip(NAME, "")
    set_clip_trainable(visual, "query_value")
    names = {name for name, parameter in visual.named_parameters() if parameter.requires_grad}
    blocks = range(4)
    assert names == {f"transformer.resblocks.{i}.attn.{part}.weight" for i in blocks for part in ("query", "value")}
    set_clip_trainable(visual, "none")
    assert not any(parameter.requires_grad for parameter in visual.parameters())


def test_the_unused_last_query_gets_a_zero_gradient_as_in_the_released_code():
    encoder = build_encoder()
    set_clip_trainable(encoder.visual, "query_value")
    encoder(torch.randn(1, 3, 192, 192)).dense.sum().backward()
    gradients = [block.attn.query.weight.grad for block in encoder.visual.transformer.resblocks]
    assert (gradients[-1] == 0).all() and all((gradient != 0).any() for gradient in gradients[:-1])


@pytest.mark.parametrize("text_apart", [False, True])
def test_pretrained_weights_come_from_a_local_file(tmp_path, text_apart):
    torch.manual_seed(7)
    source = open_clip.create_model(NAME, force_custom_text=text_apart)
    torch.save(source.state_dict(), tmp_path / "clip.pt")
    visual, _, _ = build_clip(NAME, str(tmp_path / "clip.pt"))
    torch.testing.assert_close(visual.conv1.weight, source.visual.conv1.weight)
    packed = source.visual.transformer.resblocks[0].attn.in_proj_weight
    torch.testing.assert_close(visual.transformer.resblocks[0].attn.key.weight, packed.chunk(3)[1])


def test_weights_as_openai_publishes_them_load_in_half_precision_too(tmp_path):
    torch.manual_seed(7)
    source = open_clip.create_model(NAME)
    state = {name: value.half() for name, value in source.state_dict().items()}
    settings = {name: torch.tensor(192) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save({**state, **settings}, tmp_path / "clip.pth")
    visual, text, _ = build_clip(NAME, str(tmp_path / "clip.pth"))
    assert visual.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(visual.conv1.weight, source.visual.conv1.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(text.token_embedding.weight, source.token_embedding.weight, rtol=1e-3, atol=1e-4)


def test_bad_weights_and_names_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.pt"):
        build_clip(NAME, str(tmp_path / "nowhere.pt"))
    (tmp_path / "broken.pt").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="broken.pt"):
        build_clip(NAME, str(tmp_path / "broken.pt"))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="other.pt"):
        build_clip(NAME, str(tmp_path / "other.pt"))
    with pytest.raises(ConfigError, match="ViT-Z-99"):
        build_clip("ViT-Z-99", "")
    with pytest.raises(ConfigError, match="plain ViT"):
        build_clip("RN50", "")
    with pytest.raises(ConfigError, match=f"{NAME} was requested; choose from 1 to 3"):
        build_encoder(blocks=[1, 4, 4])
    with pytest.raises(ConfigError, match=f"must end with {NAME}'s last block, 4"):
        build_encoder(blocks=[1, 2, 3])
    with pytest.raises(ConfigError, match="FINETUNE"):
        set_clip_trainable(build_clip(NAME, "")[0], "some")
