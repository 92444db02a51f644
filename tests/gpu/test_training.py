"""Steps of training in mixed precision, and their memory, in both stages."""

from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from detectron2.utils.events import EventStorage
from torch import nn

from mm_ovseg.efficiency.machine import reset_peak_memory, resident_mb

STEPS = 20
WARM_UP, REPEATS = 5, 50
# Relative deviation of the first loss from float32's.
LOSS_TOLERANCE = {"bfloat16": 0.02, "float16": 0.005}


def train(trainer, steps):
    """The losses of some steps."""
    losses = []
    with EventStorage() as storage:
        for _ in range(steps):
            trainer.run_step()
            losses.append(storage.latest()["total_loss"][0])
            storage.step()
    return losses


def weights(trainer):
    return [parameter.detach().clone() for group in trainer.optimizer.param_groups for parameter in group["params"]]


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_learns_as_float32_does(make_workload, check, stage, dtype):
    seen, losses = set(), {}
    for name in ("float32", dtype):
        workload = make_workload(stage, dtype=name)
        model = workload.build_model()
        products = [module for module in model.modules() if isinstance(module, nn.Linear)]
        products[0].register_forward_hook(lambda _, inputs, output, name=name: seen.add((name, output.dtype)))
        trainer = workload.build_trainer(model)
        losses[name] = train(trainer, STEPS)
        assert all(torch.isfinite(weight).all() for weight in weights(trainer))
    assert seen == {("float32", torch.float32), (dtype, getattr(torch, dtype))}
    expected, ours = losses["float32"], losses[dtype]
    check("first loss, relative deviation", abs(ours[0] / expected[0] - 1), LOSS_TOLERANCE[dtype])
    check("share of the first loss that is left", ours[-1] / ours[0], 0.95)
    check("the same in float32", expected[-1] / expected[0], 0.95)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_step_that_overflows_float16_is_skipped_and_the_scale_halves(make_workload, check, stage):
    workload = make_workload(stage, dtype="float16")
    trainer = workload.build_trainer(workload.build_model())
    trainer.grad_scaler.load_state_dict({**trainer.grad_scaler.state_dict(), "scale": 2.0**100})
    before = weights(trainer)
    train(trainer, 1)
    assert all(torch.equal(*pair) for pair in zip(before, weights(trainer), strict=True))
    assert trainer.grad_scaler.get_scale() == 2.0**99
    trainer.grad_scaler.load_state_dict({**trainer.grad_scaler.state_dict(), "scale": 2.0**8})
    train(trainer, 1)
    assert trainer.grad_scaler.get_scale() == 2.0**8
    changed = sum(not torch.equal(*pair) for pair in zip(before, weights(trainer), strict=True))
    check("share of parameters that the next step leaves", 1 - changed / len(before), 0.1)


@contextmanager
def group_of_one(device):
    """A process group of this process alone."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("stage", [1, 2])
def test_a_group_of_one_process_learns_what_the_model_alone_does(make_workload, check, device, stage):
    workload = make_workload(stage)
    alone = train(workload.build_trainer(workload.build_model(), accumulation_steps=2), 5)
    with group_of_one(device):
        trainer = workload.build_trainer(workload.build_model(), accumulation_steps=2)
        trainer.model = nn.parallel.DistributedDataParallel(trainer.model, broadcast_buffers=False)
        grouped = train(trainer, 5)
        del trainer
    worst = max(abs(ours / loss - 1) for ours, loss in zip(grouped, alone, strict=True))
    check("losses, the worst relative deviation", worst, 1e-4)


@pytest.mark.parametrize("stage", [1, 2])
def test_memory_is_flat_over_many_steps(make_workload, check, device, stage):
    workload = make_workload(stage, "CMU.EMA_DECAY", 0.9, dtype="bfloat16")
    trainer = workload.build_trainer(workload.build_model())
    reset_peak_memory(device)
    train(trainer, WARM_UP)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        train(trainer, REPEATS)
        check(f"bytes more after {REPEATS} steps", torch.cuda.memory_allocated(device) - before, 0)
        check("peak, MB", torch.cuda.max_memory_allocated(device) / 1e6)
    else:  # of the whole process, which the allocator rounds
        before = resident_mb()
        train(trainer, REPEATS)
        check(f"MB more after {REPEATS} steps", resident_mb() - before, 50)
