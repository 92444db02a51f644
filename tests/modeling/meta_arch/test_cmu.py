import pytest
import torch
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError, DataError
from tests.conftest import random_pair

CONFIG = "configs/quickstart/cmu.yaml"
CLIP = ["CMU.ENCODER", "clip", "CMU.BLOCKS", [1, 2, 4]]


@pytest.fixture
def model(make_model):
    return make_model(config=CONFIG)


def differences(tokens):
    """Squared distances of the SAR tokens from their RGB tokens, (blocks, h * w)."""
    return (torch.stack(tokens["sar_tokens"]) - torch.stack(tokens["image_tokens"])).square().sum(dim=-1)


@pytest.mark.parametrize("settings", [
    ["CMU.LOSS", "infonce"],
    ["CMU.LOSS", "mse"],
    ["CMU.LOSS", "l1"],
    ["CMU.NEGATIVES", "image", "CMU.SYMMETRIC", True, "CMU.LEARNED_TEMPERATURE", True],
    CLIP,
    [*CLIP, "CMU.LOSS", "l1", "MODEL.ACTIVATION_CHECKPOINTING", True],
    ["MODEL.ACTIVATION_CHECKPOINTING", True],
])  # fmt: skip
def test_a_few_steps_bring_the_student_nearer_to_the_teacher(make_model, settings):
    model = make_model(*settings, config=CONFIG).train()
    batch = [random_pair(64, 64, seed) for seed in range(4)]
    teacher = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(model.student.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        value = model(batch)["loss_alignment"]
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert sum(losses[-3:]) < sum(losses[:3])
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(torch.equal(teacher[key], value) for key, value in model.teacher.state_dict().items())


def test_the_student_starts_as_the_teacher_so_equal_images_have_equal_tokens(model):
    image = random_pair()["image"]
    (tokens,) = model.eval()([{"image": image, "sar_image": image}])
    assert [block.shape for block in tokens["sar_tokens"]] == 3 * [(24 * 24, 96)]
    torch.testing.assert_close(tokens["sar_tokens"], tokens["image_tokens"])
    torch.testing.assert_close(torch.stack(tokens["sar_tokens"]).norm(dim=-1), torch.ones(3, 24 * 24))
    assert tokens["valid"].shape == (24 * 24,) and tokens["valid"].all()


def test_mse_of_all_tokens_is_the_mean_over_places_and_blocks(make_model):
    model = make_model("CMU.LOSS", "mse", "CMU.TOKENS_PER_IMAGE", 10000, config=CONFIG)
    pair = random_pair()
    (tokens,) = model.eval()([pair])
    expected = differences(tokens).mean()
    torch.testing.assert_close(model.train()([pair])["loss_alignment"], expected, rtol=1e-4, atol=1e-6)


def test_places_without_data_are_left_out(make_model):
    model = make_model("CMU.LOSS", "mse", "CMU.TOKENS_PER_IMAGE", 10000, config=CONFIG)
    pair = random_pair(192, 192)
    sar_valid = torch.ones(192, 192, dtype=torch.bool)
    sar_valid[:100] = False  # 12.5 rows of tokens: the half one does not count either
    (tokens,) = model.eval()([{**pair, "sar_valid": sar_valid}])
    valid = tokens["valid"].view(24, 24)
    assert not valid[:13].any() and valid[13:].all()
    loss = model.train()([{**pair, "sar_valid": sar_valid}])["loss_alignment"]
    expected = differences(tokens).view(3, 24, 24)[:, 13:].mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


def test_sampled_places_are_distinct_and_valid_first(model):
    valid = torch.zeros(2, 20, dtype=torch.bool)
    valid[0, :5] = valid[1, :12] = True
    model.tokens_per_image = 8
    places = model._sample_places(valid)
    assert places.shape == (2, 8) and all(len(row.unique()) == 8 for row in places)
    assert valid[0][places[0]].sum() == 5 and valid[1][places[1]].all()


def test_a_temperature_scales_infonce(make_model):
    pair = [random_pair(seed=seed) for seed in range(2)]
    losses = {}
    for temperature in (0.07, 1.0):
        model = make_model("CMU.TEMPERATURE", temperature, "CMU.TOKENS_PER_IMAGE", 10000, config=CONFIG)
        assert model.temperature == temperature
        losses[temperature] = model.train()(pair)["loss_alignment"].item()
    assert losses[0.07] != pytest.approx(losses[1.0], rel=0.05)


@pytest.mark.parametrize("settings", [["CMU.BLOCKS", [1, 2]], CLIP, ["CMU.LEARNED_TEMPERATURE", True]])
def test_what_learns_is_what_the_loss_sees(make_model, settings):
    model = make_model("CMU.EMA_DECAY", 0.9, *settings, config=CONFIG).train()
    model([random_pair()])["loss_alignment"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        assert not parameter.requires_grad or name.startswith(("student.", "log_scale")), name
    frozen = {name for name, parameter in model.student.named_parameters() if not parameter.requires_grad}
    if settings == CLIP:
        last = "visual.transformer.resblocks.3.attn."
        assert frozen == {last + name for name in ("query.weight", "query.bias", "key.weight", "key.bias")}
    else:
        assert all("blocks.2." in name for name in frozen) and bool(frozen) == (settings[1] == [1, 2])


def test_the_tokens_of_a_clip_student_are_of_guidance_blocks_and_of_the_dense_feature(make_model):
    model = make_model(*CLIP, config=CONFIG).eval()
    pair = random_pair()
    (tokens,) = model([pair])
    with torch.no_grad():
        features = model.teacher(model.teacher.preprocess([pair["image"]]))
    maps = [*features.guidance, features.dense]
    for block_tokens, block_map in zip(tokens["image_tokens"], maps, strict=True):
        torch.testing.assert_close(block_tokens, F.normalize(block_map[0].flatten(1).T, dim=1))


def test_a_learned_temperature_starts_where_it_is_told_to_and_stays_in_bounds(make_model):
    settings = ["CMU.TOKENS_PER_IMAGE", 10000, "CMU.TEMPERATURE", 0.2]
    pairs = [random_pair(seed=seed) for seed in range(2)]
    fixed, learned = (
        make_model(*settings, "CMU.LEARNED_TEMPERATURE", is_learned, config=CONFIG).train()
        for is_learned in (False, True)
    )
    torch.testing.assert_close(learned(pairs), fixed(pairs))
    with torch.no_grad():
        learned.log_scale.fill_(100.0)
    loss = learned(pairs)["loss_alignment"]
    assert torch.isfinite(loss) and learned.log_scale.exp().item() == pytest.approx(100)
    loss.backward()
    assert learned.log_scale.grad != 0  # at its bound it can still turn back


def test_evaluation_uses_the_moving_average_of_the_student(make_model):
    model = make_model("CMU.EMA_DECAY", 0.75, config=CONFIG).train()
    pair = random_pair()
    names = [name for name, _ in model.student.named_parameters()]
    expected = None
    for value in (1.0, 2.0, 4.0):
        with torch.no_grad():
            for parameter in model.student.parameters():
                parameter.fill_(value)
        model.after_optimizer_step()
        expected = value if expected is None else 0.75 * expected + 0.25 * value
    average = dict(model.student_average.module.named_parameters())
    assert all((average[name] == expected).all() for name in names)  # 1.9375, exact in binary
    with torch.no_grad():
        model.student_average.module.load_state_dict(model.teacher.state_dict())
    (tokens,) = model.eval()([{"image": pair["image"], "sar_image": pair["image"]}])
    torch.testing.assert_close(tokens["sar_tokens"], tokens["image_tokens"])


@pytest.mark.parametrize("settings,message", [
    (["CMU.LOSS", "cosine"], "CMU.LOSS is 'cosine'"),
    (["CMU.ENCODER", "resnet"], "CMU.ENCODER is 'resnet'"),
    (["CMU.NEGATIVES", "all"], "CMU.NEGATIVES is 'all'"),
    (["CMU.BLOCKS", []], "CMU.BLOCKS is empty"),
    (["CMU.ENCODER", "clip"], r"Blocks \[1, 2, 3\].*must end with ViT-quickstart-16's last block, 4"),
    (["CMU.ENCODER", "clip", "CMU.BLOCKS", [4, 4]], "choose from 1 to 3"),
    (["CMU.BLOCKS", [1, 9]], "choose from 1 to 3"),
    (["CMU.TEMPERATURE", 0.0], "CMU.TEMPERATURE is 0.0"),
    (["CMU.TOKENS_PER_IMAGE", 0], "CMU.TOKENS_PER_IMAGE is 0"),
    (["CMU.EMA_DECAY", 1.0], "CMU.EMA_DECAY is 1.0"),
    (["CMU.LOSS", "mse", "CMU.LEARNED_TEMPERATURE", True], "mse has no temperature"),
])  # fmt: skip
def test_bad_settings_are_named(make_model, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_model(*settings, config=CONFIG)


def test_a_pair_without_sar_is_named(model):
    with pytest.raises(DataError, match=r"pair_0\.png has no 'sar_image'"):
        model([{key: value for key, value in random_pair().items() if key != "sar_image"}])


def test_inference_in_mixed_precision_by_config(make_model):
    model = make_model("MODEL.INFERENCE_DTYPE", "bfloat16", config=CONFIG).eval()
    seen = []
    for encoder in (model.teacher, model.student):
        encoder.model.blocks[0].attn.qkv.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    (tokens,) = model([random_pair()])
    assert seen == 2 * [torch.bfloat16]
    (expected,) = make_model(config=CONFIG).eval()([random_pair()])
    for key in ("image_tokens", "sar_tokens"):
        ours, theirs = torch.stack(tokens[key]), torch.stack(expected[key])
        assert ours.dtype == torch.float32 and 0 < (ours - theirs).abs().max() < 0.05
    seen.clear()
    model.train()([random_pair()])
    assert seen == 2 * [torch.float32]  # training has SOLVER.AMP
    with pytest.raises(ConfigError, match="float16 is for GPUs"):
        make_model("MODEL.INFERENCE_DTYPE", "float16", config=CONFIG).eval()([random_pair()])
    with pytest.raises(ConfigError, match=r"MODEL\.INFERENCE_DTYPE is 'half'"):
        make_model("MODEL.INFERENCE_DTYPE", "half", config=CONFIG)


def test_compiling_by_config_reaches_the_blocks_of_every_encoder(make_model):
    model = make_model("MODEL.COMPILE", True, "CMU.EMA_DECAY", 0.5, config=CONFIG)
    compiled = [name.split(".")[0] for name, module in model.named_modules() if module._compiled_call_impl is not None]
    assert compiled == 3 * ["teacher"] + 3 * ["student"] + 3 * ["student_average"]
    with torch.compiler.set_stance("force_eager"):  # the compiler itself takes half a minute
        model.train()([random_pair()])["loss_alignment"].backward()
        model.after_optimizer_step()
        assert len(model.eval()([random_pair()])[0]["sar_tokens"]) == 3
