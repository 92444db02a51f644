import math

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from mm_ovseg.engine.training_step import AccumulatingTrainer
from mm_ovseg.errors import ConfigError, TrainingError


class Squares(nn.Module):
    """The loss is the mean square of the weighted inputs of a batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))

    def forward(self, batch):
        values = torch.stack([item["x"] for item in batch])
        return {"loss": (values @ self.weight).square().mean()}


def batches(*groups):
    while True:
        for group in groups:
            yield [{"x": torch.tensor(x), "file_name": f"{x[0]}.png"} for x in group]


def build(model, loader, **changes):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    arguments = {
        "accumulation_steps": 1,
        "max_gradient_norm": None,
        "autocast_dtype": None,
        "device_type": "cpu",
        **changes,
    }
    return AccumulatingTrainer(model, loader, optimizer, **arguments)


def step(trainer, times=1):
    with EventStorage() as storage:
        for _ in range(times):
            trainer.run_step()
        return storage.latest()


def test_accumulated_small_batches_make_the_step_of_the_whole_batch():
    first, second = [[1.0, 2.0], [0.5, -1.0]], [[3.0, 1.0], [-1.0, 1.0]]
    whole, parts = Squares(), Squares()
    logged_whole = step(build(whole, batches(first + second)), 3)
    logged_parts = step(build(parts, batches(first, second), accumulation_steps=2), 3)
    torch.testing.assert_close(parts.weight, whole.weight)
    assert logged_parts["total_loss"][0] == pytest.approx(logged_whole["total_loss"][0])


def test_the_full_gradient_is_scaled_to_the_largest_norm():
    model = Squares()
    before = model.weight.detach().clone()
    step(build(model, batches([[1.0, 2.0]]), max_gradient_norm=0.01))
    assert (before - model.weight).norm().item() == pytest.approx(0.1 * 0.01, rel=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_learns_on_this_device(dtype):
    trainer = build(Squares(), batches([[1.0, 2.0]]), autocast_dtype=dtype)
    logged_first = step(trainer)["total_loss"][0]
    logged_last = step(trainer, 20)["total_loss"][0]  # the loss scale of float16 first has to find its size
    assert logged_last < 0.1 * logged_first


def test_the_model_is_told_after_a_step_of_the_optimiser():
    model, seen = Squares(), []
    model.after_optimizer_step = lambda: seen.append(model.weight.detach().clone())
    before = model.weight.detach().clone()
    step(build(model, batches([[1.0, 2.0]]), accumulation_steps=2), 2)
    assert len(seen) == 2 and torch.equal(seen[-1], model.weight) and not torch.equal(seen[0], before)


def test_a_loss_that_is_not_finite_stops_with_the_files_and_no_step():
    model = Squares()
    before = model.weight.detach().clone()
    trainer = build(model, batches([[1.0, 2.0], [math.nan, 1.0]]))
    trainer.iter = 17
    with pytest.raises(TrainingError, match=r"iteration 17 \(loss nan\).*1\.0\.png, nan\.png"):
        step(trainer)
    assert torch.equal(model.weight, before)


def test_the_state_to_resume_from_holds_the_optimiser_and_the_scaler():
    trainer = build(Squares(), batches([[1.0, 2.0]]), autocast_dtype="float16")
    trainer.iter = 0
    state = trainer.state_dict()
    assert set(state) >= {"optimizer", "grad_scaler"}
    other = build(Squares(), batches([[1.0, 2.0]]), autocast_dtype="float16")
    state["grad_scaler"]["scale"] = 8.0
    other.load_state_dict(state)
    assert other.grad_scaler.get_scale() == 8.0


def test_bad_settings_are_config_errors():
    with pytest.raises(ConfigError, match="ACCUMULATION_STEPS"):
        build(Squares(), batches([[1.0, 2.0]]), accumulation_steps=0)
    with pytest.raises(ConfigError, match="AMP.DTYPE"):
        build(Squares(), batches([[1.0, 2.0]]), autocast_dtype="float8")
