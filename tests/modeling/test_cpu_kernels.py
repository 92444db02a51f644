from contextlib import nullcontext

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.modeling import cpu_kernels
from mm_ovseg.modeling.cpu_kernels import (
    HAS_ONEDNN,
    ChunkedAttention,
    CPULinear,
    chunked_attention,
    fast_attention,
    use_cpu_kernels,
)
from tests.attention_kernels import kernels_of


def random_heads(tokens, dtype=torch.bfloat16, width=8):
    return torch.randn(2, tokens, 3, width).to(dtype).transpose(1, 2)  # (2, 3, tokens, width), as encoders have it


@pytest.mark.parametrize("tokens, keys", [(1, 1), (511, 700), (512, 512), (513, 40), (1100, 1100)])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_chunks_are_the_whole(tokens, keys, scale):
    torch.manual_seed(0)
    query, key, value = (random_heads(count, torch.float64) for count in (tokens, keys, keys))
    expected = F.scaled_dot_product_attention(query, key, value, scale=scale)
    torch.testing.assert_close(chunked_attention(query, key, value, scale), expected, rtol=1e-12, atol=1e-12)


def test_bfloat16_is_as_near_as_a_plain_formulation_in_bfloat16():
    torch.manual_seed(0)
    query, key, value = (random_heads(1200) for _ in range(3))
    exact = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    plain = torch.softmax(query * 8**-0.5 @ key.transpose(-1, -2), dim=-1) @ value
    error, plain_error = ((x - exact).norm() / exact.norm() for x in (chunked_attention(query, key, value), plain))
    assert error < 1.1 * plain_error < 0.02


class Calls(list):
    """Counts what is done in chunks."""

    def __init__(self, monkeypatch):
        original = chunked_attention
        monkeypatch.setattr(
            cpu_kernels, "chunked_attention", lambda *a, **k: (self.append(a[0].dtype), original(*a, **k))[1]
        )


def test_only_what_gains_is_done_in_chunks(monkeypatch):
    calls = Calls(monkeypatch)
    heads = random_heads(1024)
    mask = torch.ones(1024, 1024, dtype=torch.bool)
    with ChunkedAttention():
        for arguments in (
            {"attn_mask": mask},
            {"is_causal": True},
            {"dropout_p": 0.5},
        ):
            F.scaled_dot_product_attention(heads, heads, heads, **arguments)
        F.scaled_dot_product_attention(heads.float(), heads.float(), heads.float())
        F.scaled_dot_product_attention(*3 * [random_heads(1023)])
        F.scaled_dot_product_attention(heads.clone().requires_grad_(), heads, heads).sum().backward()
        assert not calls
        F.scaled_dot_product_attention(query=heads, key=heads, value=heads, scale=0.3)
        with torch.autocast("cpu", torch.bfloat16):
            F.scaled_dot_product_attention(heads.float(), heads.float(), heads.float())
    assert calls == [torch.bfloat16] * 2
    F.scaled_dot_product_attention(heads, heads, heads)
    assert len(calls) == 2


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3_qkvb"])
def test_the_blocks_of_timm_are_served(monkeypatch, name):
    torch.manual_seed(0)
    calls = Calls(monkeypatch)
    model = timm.create_model(name, num_classes=0, depth=2, img_size=512).eval()
    image = torch.randn(1, 3, 512, 512)
    expected = model.forward_features(image)
    with ChunkedAttention(), torch.autocast("cpu", torch.bfloat16):
        found = model.forward_features(image)
    assert len(calls) == 2
    assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.fixture(params=[False, True], ids=["without AMX", "with AMX"])
def amx(request, monkeypatch):
    """Both kinds of CPU, as far as this one can stand in for them."""
    if request.param and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no products in bfloat16")
    monkeypatch.setattr(cpu_kernels, "HAS_AMX", request.param)
    return request.param


@torch.no_grad()
def test_each_kind_of_cpu_has_its_kernels(amx):
    layer, x = CPULinear.like(nn.Linear(8, 8)), torch.randn(3, 8)
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            assert ("mkldnn::_linear_pointwise" in kernels_of(lambda: layer(x))) == (half == amx) * HAS_ONEDNN
            chunked = isinstance(fast_attention(torch.empty(1)), ChunkedAttention)
            assert chunked == (half and not amx)


def test_training_graphs_and_other_devices_get_the_kernels_of_pytorch(amx):
    layer, x = CPULinear.like(nn.Linear(8, 8), gelu=True), torch.randn(3, 8)
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            assert "mkldnn::_linear_pointwise" not in kernels_of(lambda: layer(x).sum().backward())
            assert isinstance(fast_attention(x), type(nullcontext()))
            with torch.no_grad():
                graph = torch.export.export(layer, (x,))
            assert "pointwise" not in str(graph) and "gelu_" not in str(graph)
    with torch.no_grad():
        assert isinstance(fast_attention(torch.empty(1, device="meta", dtype=torch.bfloat16)), type(nullcontext()))
        assert "mkldnn::_linear_pointwise" not in kernels_of(lambda: layer.to("meta")(torch.empty(3, 8, device="meta")))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("gelu", [False, True])
def test_a_layer_is_the_linear_layer_that_it_stands_for(amx, bias, gelu):
    linear = nn.Linear(24, 40, bias=bias)
    layer, x = CPULinear.like(linear, gelu=gelu), torch.randn(2, 7, 24)
    expected = F.gelu(linear(x)) if gelu else linear(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected.detach(), rtol=1e-5, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            half = layer(x)
    assert half.dtype is torch.bfloat16 and (half - expected).norm() < 0.01 * expected.norm()
    layer(x).sum().backward()
    assert linear.weight.grad is not None  # the parameters are shared, and learn
    assert layer.double()(x.double()).dtype == torch.float64


@torch.no_grad()
def test_weights_are_converted_once_and_again_after_every_change(monkeypatch):
    monkeypatch.setattr(cpu_kernels, "HAS_AMX", True)
    layer = CPULinear.like(nn.Linear(8, 8))
    kept = layer._in_bfloat16()
    assert layer._in_bfloat16()[0] is kept[0]
    for change in (
        lambda: layer.weight.add_(1),
        lambda: layer.bias.mul_(2),
        lambda: layer.load_state_dict(nn.Linear(8, 8).state_dict()),
        lambda: setattr(layer, "weight", nn.Parameter(torch.ones(8, 8))),
        lambda: (layer.weight.data.mul_(3), layer.eval()),  # no version tells of this, so the mode does
    ):
        change()
        for now, parameter in zip(layer._in_bfloat16(), (layer.weight, layer.bias), strict=True):
            torch.testing.assert_close(now, parameter.bfloat16(), rtol=0, atol=0)
    with torch.inference_mode():
        made = CPULinear.like(nn.Linear(8, 8))
        made.weight.fill_(3)
        assert made._in_bfloat16()[0].unique().item() == 3
        made.weight.fill_(4)  # weights made in this mode have no versions
        assert made._in_bfloat16()[0].unique().item() == 4


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3_qkvb"])
def test_a_transformer_keeps_its_names_and_its_output(amx, name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, depth=2, img_size=64).eval()
    parameters, image = dict(model.named_parameters()), torch.randn(2, 3, 64, 64)
    expected = model.forward_features(image)
    use_cpu_kernels(model)
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert any(isinstance(module, CPULinear) and module.gelu for module in model.modules())
    torch.testing.assert_close(model.forward_features(image), expected, rtol=1e-4, atol=1e-5)
