import logging
import math

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from mm_ovseg.engine.training_step import AccumulatingTrainer
from mm_ovseg.errors import ConfigError, TrainingError
from tests.process_group import run_in_group


class Squares(nn.Module):
    """The loss is the mean square of the weighted inputs of a batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))

    def forward(self, batch):
        values = torch.stack([item["x"] for item in batch])
        return {"loss": (values @ self.weight).square().mean()}


class Roots(Squares):
    """The loss is the mean root of the weighted inputs; at an input of 0 it is finite, and its gradient is not."""

    def forward(self, batch):
        values = torch.stack([item["x"] for item in batch])
        return {"loss": (values @ self.weight).abs().sqrt().mean()}


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


GOOD, BAD = [[1.0, 2.0]], [[0.0, 0.0]]


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_a_step_whose_gradient_is_not_finite_is_skipped_and_its_files_are_named(dtype, caplog):
    model, told = Roots(), []
    model.after_optimizer_step = lambda: told.append(True)
    trainer = build(model, batches(GOOD, BAD, GOOD), autocast_dtype=dtype, accumulation_steps=1)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=dtype == "float16")
    trainer.iter = 16
    step(trainer)
    before, logged = model.weight.detach().clone(), len(caplog.records)
    trainer.iter = 17
    step(trainer)
    assert torch.equal(model.weight, before) and len(told) == 1
    (record,) = caplog.records[logged:]
    assert "Iteration 17 is skipped" in record.getMessage() and record.getMessage().endswith("the batch 0.0.png.")
    assert trainer.grad_scaler.get_scale() == (2.0 if dtype == "float16" else 1.0)
    step(trainer)
    assert not torch.equal(model.weight, before) and model.weight.isfinite().all() and len(told) == 2


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_too_many_skipped_steps_in_a_row_stop_the_run_before_weights_change(dtype):
    model = Roots()
    trainer = build(model, batches(BAD, BAD, GOOD, BAD, BAD, BAD), autocast_dtype=dtype, max_skipped_steps=2)
    trainer.iter = 17
    step(trainer, 3)  # the third is finite, and the count starts again
    before = model.weight.detach().clone()
    step(trainer, 2)
    with pytest.raises(TrainingError, match=r"not finite at iteration 17, on the batch 0\.0\.png; .* 3 in a row, and"):
        step(trainer)
    assert torch.equal(model.weight, before) and model.weight.isfinite().all()


def steps_of_one_process(rank):
    """The weights before and after a step that only the first of two processes can do, and what was said of it."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("mm_ovseg.engine.training_step").addHandler(handler)
    model = nn.parallel.DistributedDataParallel(Roots())
    trainer = build(model, batches(GOOD, BAD if rank else GOOD, GOOD))
    weights = []
    for trainer.iter in range(3):
        step(trainer)
        weights.append(model.module.weight.detach().clone())
    return {"weights": torch.stack(weights), "said": said}


def test_all_processes_skip_a_step_that_one_cannot_do(tmp_path):
    first, second = run_in_group(steps_of_one_process, tmp_path)
    assert torch.equal(first["weights"], second["weights"]) and first["weights"].isfinite().all()
    moved = first["weights"].diff(dim=0).abs().sum(dim=1)
    assert moved[0] == 0 and moved[1] > 0
    for said in (first["said"], second["said"]):
        assert [line[-30:] for line in said] == ["on the batch 1.0.png, 0.0.png."]


def test_accumulated_batches_are_all_named():
    trainer = build(Roots(), batches(GOOD * 2, BAD * 2), accumulation_steps=2, max_skipped_steps=0)
    trainer.iter = 0
    with pytest.raises(TrainingError, match=r"the batch 1\.0\.png, 1\.0\.png, 0\.0\.png, 0\.0\.png; this is step 1 in"):
        step(trainer)


def test_a_finite_gradient_of_a_loss_that_is_not_finite_stops_too():
    class Constant(Squares):
        def forward(self, batch):
            return {**super().forward(batch), "constant": torch.tensor(math.inf)}

    trainer = build(Constant(), batches(GOOD))
    trainer.iter = 3
    with pytest.raises(TrainingError, match=r"iteration 3 \(loss 9\.0, constant inf\) on the batch 1\.0\.png;"):
        step(trainer)


@pytest.mark.parametrize("norm_type,gradient", [(1.0, 18.0), (math.inf, 12.0)])
def test_the_kind_of_norm_is_the_configs(norm_type, gradient):
    model = Squares()  # its gradient at (1, -2) is 2 * -3 * (1, 2)
    before = model.weight.detach().clone()
    step(build(model, batches(GOOD), max_gradient_norm=0.01, norm_type=norm_type))
    torch.testing.assert_close(before - model.weight, 0.1 * 0.01 / gradient * torch.tensor([-6.0, -12.0]))


def test_a_run_without_loss_scaling_is_resumed_with_it_and_the_reverse():
    runs = {dtype: build(Squares(), batches(GOOD), autocast_dtype=dtype) for dtype in (None, "bfloat16", "float16")}
    for run in runs.values():
        run.iter = 0
        step(run)
    scaled = runs["float16"].state_dict()
    for dtype in (None, "bfloat16"):
        fresh = build(Squares(), batches(GOOD), autocast_dtype="float16")
        initial = fresh.grad_scaler.get_scale()
        fresh.load_state_dict(runs[dtype].state_dict())
        assert fresh.grad_scaler.get_scale() == initial
        step(fresh)
        build(Squares(), batches(GOOD), autocast_dtype=dtype).load_state_dict(scaled)


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
    with pytest.raises(ConfigError, match="MAX_SKIPPED_STEPS"):
        build(Squares(), batches([[1.0, 2.0]]), max_skipped_steps=-1)
    with pytest.raises(ConfigError, match="AMP.DTYPE"):
        build(Squares(), batches([[1.0, 2.0]]), autocast_dtype="float8")
