import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.modeling.backbone import onednn
from mm_ovseg.modeling.backbone.onednn import OneDNNLinear, use_onednn


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("gelu", [False, True])
def test_it_is_the_linear_layer_that_it_stands_for(bias, gelu):
    linear = nn.Linear(24, 40, bias=bias)
    layer, x = OneDNNLinear.like(linear, gelu=gelu), torch.randn(2, 7, 24)
    expected = F.gelu(linear(x)) if gelu else linear(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected.detach(), rtol=1e-5, atol=1e-6)
    layer(x).sum().backward()
    assert linear.weight.grad is not None  # the parameters are shared, and learn
    assert layer.double()(x.double()).dtype == torch.float64


def test_autocast_is_heeded():
    layer = OneDNNLinear.like(nn.Linear(8, 8))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(3, 8)).dtype == torch.bfloat16


@pytest.mark.skipif(not onednn.IS_AVAILABLE, reason="this PyTorch has no oneDNN")
def test_the_kernel_runs_where_nothing_learns_and_only_there(monkeypatch):
    layer, x = OneDNNLinear.like(nn.Linear(8, 8)), torch.randn(3, 8)
    assert not layer._can_run(x)
    layer.requires_grad_(False)
    assert layer._can_run(x) and not layer._can_run(x.clone().requires_grad_()) and not layer._can_run(x.double())
    monkeypatch.setattr(onednn, "IS_AVAILABLE", False)
    assert not layer._can_run(x)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3_qkvb"])
def test_a_transformer_keeps_its_names_and_its_output(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, depth=2, img_size=64).eval()
    names, image = set(model.state_dict()), torch.randn(2, 3, 64, 64)
    expected = model.forward_features(image)
    use_onednn(model)
    assert set(model.state_dict()) == names
    assert any(isinstance(module, OneDNNLinear) and module.gelu for module in model.modules())
    torch.testing.assert_close(model.forward_features(image), expected, rtol=1e-4, atol=1e-5)
