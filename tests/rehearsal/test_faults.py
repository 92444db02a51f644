"""The rehearsal fails where a GPU would, or would have to wait."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from mm_ovseg.modeling.losses import SEGMENTATION_LOSS_REGISTRY
from mm_ovseg.modeling.unification_losses import UNIFICATION_LOSS_REGISTRY
from tests.rehearsal.device import CUDA, LAZY, fake_device, loaded_batch, tiny_cfg, tiny_model
from tests.rehearsal.test_models import STAGE_1, STAGE_2, check_loss

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

TWO_DEVICES = f"two different devices {CUDA}, cpu|two different devices cpu, {CUDA}"


def with_weights_on_the_cpu(logits, target, **_):
    losses = logits.mean(dim=1)
    return losses, torch.ones(losses.shape)


def unsafe_in_float16(logits, target, **_):
    probabilities = logits.half().sigmoid().mean(dim=1)
    return F.binary_cross_entropy(probabilities, probabilities.detach()).expand(1), torch.ones_like(probabilities[0, 0])


def that_reads_a_number(logits, target, **_):
    losses = logits.mean(dim=1)
    return losses * max(1.0, losses.detach().max().item()), torch.ones_like(losses)


@pytest.mark.parametrize("loss,error,message", [
    (with_weights_on_the_cpu, RuntimeError, TWO_DEVICES),
    (unsafe_in_float16, RuntimeError, "unsafe to autocast"),
    (that_reads_a_number, AssertionError, "reads"),
])  # fmt: skip
def test_a_faulty_loss_of_stage_2(monkeypatch, loss, error, message):
    monkeypatch.setitem(SEGMENTATION_LOSS_REGISTRY._obj_map, "faulty", loss)
    model = tiny_model(tiny_cfg("configs/siblings/catseg_vitb16_384.yaml", "LOSS.NAME", "faulty"))
    with pytest.raises(error, match=message):
        check_loss(model, loaded_batch(), "float16")


def test_a_shape_that_depends_on_data(monkeypatch):
    def of_valid(student, teacher, valid, **_):
        return (student - teacher).square().sum(dim=2)[valid]

    monkeypatch.setitem(UNIFICATION_LOSS_REGISTRY._obj_map, "of_valid", of_valid)
    with pytest.raises(DynamicOutputShapeException):
        check_loss(tiny_model(tiny_cfg(STAGE_1, "CMU.LOSS", "of_valid")), loaded_batch(), "float32")


@pytest.mark.parametrize("config,encoder", [(STAGE_1, "student"), (STAGE_2, "dino_sar.encoder")])
def test_an_encoder_that_forgot_to_register_a_buffer(config, encoder):
    model = tiny_model(tiny_cfg(config))
    module = model.get_submodule(encoder)
    del module.pixel_mean
    module.pixel_mean = torch.zeros(3, 1, 1)
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        check_loss(model, loaded_batch(), "float32")


class ForgetsTheDevice(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, gradient):
        return gradient * torch.ones(gradient.shape)


def test_a_backward_pass_that_forgets_the_device():
    with fake_device(), torch.autograd.set_multithreading_enabled(False):
        weight = torch.zeros(3, device=LAZY, requires_grad=True)
        with pytest.raises(RuntimeError, match=TWO_DEVICES.replace(CUDA, LAZY)):
            ForgetsTheDevice.apply(weight).sum().backward()
