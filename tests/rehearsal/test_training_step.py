"""What follows the loss: the backward pass, clipping, loss scaling, the optimiser and the moving average."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from mm_ovseg.engine.optimizer import build_optimizer
from mm_ovseg.engine.training_step import AccumulatingTrainer
from mm_ovseg.modeling.text_projection_fit import fit_text_projections
from tests.rehearsal.device import CUDA, LAZY, fake_device, loaded_batch, tiny_cfg, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

EMA = ["CMU.EMA_DECAY", 0.9, "CMU.LEARNED_TEMPERATURE", True]
STAGE_1, STAGE_2 = "configs/cmu_dino_vitb8.yaml", "configs/mm_ovseg_vitb16_384.yaml"


def trainer_of(cfg, model, dtype=None):
    return AccumulatingTrainer(
        model.train(),
        iter(lambda: loaded_batch(), None),
        build_optimizer(cfg, model),
        accumulation_steps=1,
        max_gradient_norm=0.01,
        autocast_dtype=dtype,
        device_type=next(model.parameters()).device.type,
    )


@pytest.mark.parametrize("config,overrides", [
    (STAGE_1, [*EMA, "MODEL.ACTIVATION_CHECKPOINTING", True]),
    ("configs/cmu_clip_vitb16.yaml", ["CMU.SYMMETRIC", True]),
    (STAGE_2, ["MODEL.ACTIVATION_CHECKPOINTING", True]),
    ("configs/mm_ovseg_vitl14_336.yaml", ["MODEL.CLIP_SAR.ENABLED", True]),
    ("configs/siblings/catseg_vitb16_384.yaml", ["MODEL.AGGREGATOR.MAX_CLASSES", 2, "LOSS.NAME", "cross_entropy"]),
    ("configs/siblings/ebseg_vitb16_640.yaml", []),
    ("configs/siblings/fgaseg_vitb16_384.yaml", []),
])  # fmt: skip
def test_a_whole_step_on_a_device_that_autograd_accepts(monkeypatch, config, overrides):
    autocast = torch.autocast

    def of_other_devices(kind, *args, **kwargs):  # this one has none
        return nullcontext() if kind == "lazy" else autocast(kind, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", of_other_devices)
    monkeypatch.setattr(torch, "lazy", SimpleNamespace(), raising=False)  # whose random state checkpointing asks for
    cfg = tiny_cfg(config, *overrides)
    model = tiny_model(cfg, LAZY)
    before = {name: parameter._version for name, parameter in model.named_parameters()}
    with fake_device(), torch.autograd.set_multithreading_enabled(False), EventStorage():
        trainer_of(cfg, model).run_step()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.device == torch.device(LAZY), name
        is_average = name.startswith("student_average.")
        assert (parameter._version > before[name]) == (parameter.requires_grad or is_average), name


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
@pytest.mark.parametrize("config,overrides", [(STAGE_1, EMA), (STAGE_2, [])])
def test_a_step_on_cuda_but_for_the_backward_pass(monkeypatch, config, overrides, dtype):
    """That one wants a CUDA context; gradients of the right shapes take its place."""
    cfg = tiny_cfg(config, *overrides)
    model = tiny_model(cfg)

    def backward(loss):
        assert loss.device == torch.device(CUDA)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with fake_device() as watch, EventStorage():
        trainer = trainer_of(cfg, model, dtype)
        trainer.run_step()
    assert trainer.grad_scaler.is_enabled() == (dtype == "float16")
    assert dtype is None or getattr(torch, dtype) in watch.dtypes
    state = trainer.optimizer.state
    assert len(state) == sum(parameter.requires_grad for parameter in model.parameters())
    assert all(moments["exp_avg"].device == torch.device(CUDA) for moments in state.values())


def test_text_projections_are_fitted_on_the_gpu_and_copied_once():
    model = tiny_model(tiny_cfg(STAGE_2))
    with fake_device() as watch:
        fit_text_projections(model, [loaded_batch()] * 3)
    assert watch.reads == 4  # the sums and products of two encoders
    assert isinstance(model.dino.projection.dense, nn.Conv2d)
    assert model.dino.projection.dense.weight.device == torch.device(CUDA)
