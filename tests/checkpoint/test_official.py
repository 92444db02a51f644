import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F

from mm_ovseg.checkpoint.official import VARIANTS, convert_official_state_dict, detect_variant, find_renames
from mm_ovseg.errors import CheckpointError

MODELS = ("vitb16", "vitl14", "gsnet", "catseg")
QUERY = "sem_seg_head.predictor.transformer.layers.0.attention.attention.q.weight"


def tiny_dino():
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2
    )
    return model.state_dict()


def tiny_dinov3():
    """A timm model, and the same weights as DINOv3 publishes them."""
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, embed_dim=64, depth=2, num_heads=1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ours = model.state_dict()
    published = {"mask_token": torch.zeros(1, 64), "rope_embed.periods": torch.ones(16)}
    published |= {f"local_cls_norm.{name}": torch.zeros(64) for name in ("weight", "bias")}
    for name, value in ours.items():
        if name.endswith("q_bias"):
            bias = torch.cat([value, torch.full_like(value, 7.0), ours[name.replace("q_bias", "v_bias")]])
            published[name.replace("q_bias", "qkv.bias")] = bias
            published[name.replace("q_bias", "qkv.bias_mask")] = torch.ones_like(bias)
        elif not name.endswith("v_bias"):
            for old, new in (("reg_token", "storage_tokens"), ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")):
                name = name.replace(old, new)
            published[name] = value
    return ours, published


def tiny_clip():
    """As OpenAI publishes it: the text tower beside the image tower, and three settings."""
    torch.manual_seed(0)
    state = open_clip.create_model("ViT-quickstart-16").state_dict()
    return {**state, **{name: torch.tensor(16) for name in ("input_resolution", "context_length", "vocab_size")}}


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("variant", MODELS)
def test_whole_models_are_told_by_their_names_and_convert(variant, released_state_dict):
    state = released_state_dict(variant)
    assert detect_variant(state) == variant
    converted = convert_official_state_dict({"model": {f"module.{key}": value for key, value in state.items()}})
    assert_equal(converted, convert_official_state_dict(state, variant))
    assert not any("attn_mask" in name or "bias_mask" in name or "logit_scale" in name for name in converted)
    assert any(name.startswith("dino_sar.") for name in converted) == variant.startswith("vit")


def test_packed_biases_are_split_and_the_position_is_resized_as_dino_does(released_state_dict):
    state = released_state_dict("vitb16")
    torch.manual_seed(0)
    block = "sem_seg_head.predictor.clip_model.visual.transformer.resblocks.3.attn."
    state[f"{block}in_proj_bias"] = torch.arange(2304.0)
    state["dino_sarmodel.pos_embed"] = torch.randn(1, 785, 768)
    converted = convert_official_state_dict(state, "vitb16")
    ours = "clip.encoder.visual.transformer.resblocks.3.attn."
    for start, name in ((0, "query"), (768, "key"), (1536, "value")):
        assert torch.equal(converted[f"{ours}{name}.bias"], torch.arange(start, start + 768.0))
    position = converted["dino_sar.encoder.model.pos_embed"]
    grid = state["dino_sarmodel.pos_embed"][:, 1:].reshape(1, 28, 28, 768).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, scale_factor=(48.1 / 28, 48.1 / 28), mode="bicubic")
    torch.testing.assert_close(position[:, 1:], expected.flatten(2).transpose(1, 2))
    assert torch.equal(position[:, 0], state["dino_sarmodel.pos_embed"][:, 0])


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"teacher": {f"module.backbone.{key}": value for key, value in state.items()}},
    lambda state: {"model": {f"backbone.{key}": value for key, value in state.items()}, "epoch": 3},
    lambda state: {"student": {}, "teacher": {f"backbone.{key}": value for key, value in state.items()}
                   | {"head.mlp.0.weight": torch.zeros(3), "ibot_head.mlp.0.weight": torch.zeros(3)}},
])  # fmt: skip
def test_encoders_of_both_generations_of_dino_convert(wrap):
    state = tiny_dino()
    published = wrap({**state, "mask_token": torch.zeros(1, 24)})
    assert_equal(convert_official_state_dict(published, "dino"), state)
    ours, published = tiny_dinov3()
    assert_equal(convert_official_state_dict(wrap(published), "dinov3"), ours)


def test_openais_clip_converts_to_what_open_clip_reads():
    published = tiny_clip()
    converted = convert_official_state_dict(published, "clip")
    assert published.keys() - converted.keys() == {"input_resolution", "context_length", "vocab_size"}
    open_clip.create_model("ViT-quickstart-16").load_state_dict(converted)


def test_the_variant_is_told_by_the_names():
    assert detect_variant(tiny_dino()) == "dino"
    assert detect_variant(tiny_dinov3()[1]) == "dinov3"
    assert detect_variant(tiny_clip()) == "clip"
    assert detect_variant({"weight": torch.zeros(1)}) is None
    assert_equal(convert_official_state_dict(tiny_dino()), tiny_dino())


def renamed(state):
    return {("sem_seg_head.predictor.transformer.new" if key == QUERY else key): value for key, value in state.items()}


@pytest.mark.parametrize("variant,break_it,message", [
    ("gsnet", renamed, rf"1 missing \({QUERY}\); 1 left over \(sem_seg_head.predictor.transformer.new\)"),
    ("gsnet", lambda state: {**state, "dino_model.pos_embed": torch.zeros(1, 7, 768)},
     r"dino_model\.pos_embed has the shape \(1, 7, 768\); it cannot be interpolated to 48 x 48 tokens"),
    ("gsnet", lambda state: {key: value for key, value in state.items() if "norm" not in key}, "GSNet.*[0-9] missing"),
    ("gsnet", lambda state: convert_official_state_dict(state, "gsnet"), "already has the names that mm_ovseg reads"),
    ("gsnet", lambda state: {"model": {**state, "extra": [1]}}, r"'model'.*not tensors: extra\."),
    ("gsnet", lambda state: {**state, 3: torch.zeros(1)}, "not a state dict: its key 3 is not a string"),
    ("gsnet", lambda state: {**state, QUERY: torch.zeros(128, 256).to_sparse()}, f"not dense and real-valued: {QUERY}"),
    ("catseg", lambda state: state, "not of CAT-Seg ViT-B/16 but of GSNet ViT-B/16; convert it as 'gsnet'"),
    ("catseg", renamed, "not of CAT-Seg ViT-B/16 but closest to GSNet ViT-B/16"),
    (None, lambda state: {"layer.weight": torch.zeros(2)}, "not of MM-OVSeg ViT-B/16 or .* or OpenAI CLIP"),
    (None, lambda state: {}, "it holds no tensors"),
    ("vitb32", lambda state: state, "no variant 'vitb32'.*vitb16, vitl14"),
])  # fmt: skip
def test_what_is_not_the_published_model_is_refused_with_its_keys(variant, break_it, message, released_state_dict):
    with pytest.raises(CheckpointError, match=message):
        convert_official_state_dict(break_it(released_state_dict("gsnet")), variant)


def test_a_renamed_key_does_not_hide_which_model_it_is(released_state_dict):
    state = released_state_dict("vitl14")
    state["dino_model.tokens"] = state.pop("dino_model.storage_tokens")
    message = r"MM-OVSeg ViT-L/14.*1 missing \(dino_model\.storage_tokens\); 1 left over \(dino_model\.tokens\)"
    with pytest.raises(CheckpointError, match=message):
        convert_official_state_dict(state)


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize("variant,state,message", [
    ("dino", {"layer.weight": torch.zeros(2)}, r"not of DINO v1: it holds layer\.weight"),
    ("dino", without(tiny_dino(), "cls_token"), r"DINO v1.*1 missing \(cls_token\)"),
    ("dino", without(tiny_dino(), "pos_embed"), r"DINO v1.*1 missing \(pos_embed\)"),
    ("dino", without(tiny_dino(), "patch_embed.proj.weight"), r"1 missing \(patch_embed\.proj\.weight\)"),
    ("dino", {**tiny_dino(), "blocks.7.norm1.weight": torch.zeros(24)}, r"missing \(blocks\.2\.attn"),
    ("dinov3", without(tiny_dinov3()[1], "storage_tokens"), r"DINOv3.*1 missing \(storage_tokens\)"),
    ("dinov3", tiny_dinov3()[0], "already has the names that mm_ovseg reads"),
    ("dinov3", {**tiny_dinov3()[1], "blocks.1.attn.qkv.bias": torch.tensor(0.0)}, r"shape \(\); it cannot be split"),
    ("dinov3", {**tiny_dinov3()[1], "blocks.1.attn.qkv.bias": torch.zeros(4)}, r"the shape \(4,\); it cannot be split"),
    ("clip", without(tiny_clip(), "text_projection"), r"OpenAI CLIP.*1 missing \(text_projection\)"),
    ("clip", without(tiny_clip(), "visual.proj"), r"1 missing \(visual\.proj\)"),
])  # fmt: skip
def test_what_is_not_the_published_encoder_is_refused_with_its_keys(variant, state, message):
    with pytest.raises(CheckpointError, match=message):
        convert_official_state_dict(state, variant)


def test_every_drop_and_derivation_has_its_reason(released_state_dict):
    for variant in MODELS:
        state = released_state_dict(variant)
        for name, rename in find_renames(state, variant).items():
            assert rename.reason or (rename.derive is None and len(rename.targets) == 1), name
    assert all(variant.title and variant.use for variant in VARIANTS.values())
