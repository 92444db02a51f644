import pytest
import torch

from mm_ovseg.errors import ConfigError, DataError
from tests.conftest import random_pair

CONFIG = "configs/quickstart/cmu.yaml"


@pytest.fixture
def model(make_model):
    return make_model(config=CONFIG)


@pytest.mark.parametrize("loss", ["infonce", "mse", "l1"])
def test_a_few_steps_bring_the_student_nearer_to_the_teacher(make_model, loss):
    model = make_model("CMU.LOSS", loss, config=CONFIG).train()
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
    assert tokens["sar_tokens"].shape == (3, 24 * 24, 96)
    torch.testing.assert_close(tokens["sar_tokens"], tokens["image_tokens"])
    torch.testing.assert_close(tokens["sar_tokens"].norm(dim=-1), torch.ones(3, 24 * 24))


def test_mse_of_all_tokens_is_the_mean_over_places_and_blocks(make_model):
    model = make_model("CMU.LOSS", "mse", "CMU.TOKENS_PER_IMAGE", 10000, config=CONFIG)
    pair = random_pair()
    (tokens,) = model.eval()([pair])
    expected = (tokens["sar_tokens"] - tokens["image_tokens"]).square().sum(dim=-1).mean()
    torch.testing.assert_close(model.train()([pair])["loss_alignment"], expected, rtol=1e-4, atol=1e-6)


def test_places_without_data_are_left_out(make_model):
    model = make_model("CMU.LOSS", "mse", "CMU.TOKENS_PER_IMAGE", 10000, config=CONFIG)
    pair = random_pair(192, 192)
    sar_valid = torch.ones(192, 192, dtype=torch.bool)
    sar_valid[:100] = False  # 12.5 rows of tokens: the half one does not count either
    (tokens,) = model.eval()([pair])
    differences = (tokens["sar_tokens"] - tokens["image_tokens"]).square().sum(dim=-1).view(3, 24, 24)
    loss = model.train()([{**pair, "sar_valid": sar_valid}])["loss_alignment"]
    torch.testing.assert_close(loss, differences[:, 13:].mean(), rtol=1e-4, atol=1e-6)


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


def test_what_no_loss_sees_does_not_learn(make_model):
    model = make_model("CMU.BLOCKS", [1, 2], config=CONFIG).train()
    model([random_pair()])["loss_alignment"].backward()
    for name, parameter in model.student.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == ("blocks.2." not in name), name


def test_bad_input_is_named(make_model, model):
    with pytest.raises(ConfigError, match="CMU.LOSS"):
        make_model("CMU.LOSS", "cosine", config=CONFIG)
    with pytest.raises(DataError, match=r"pair_0\.png has no 'sar_image'"):
        model([{key: value for key, value in random_pair().items() if key != "sar_image"}])
