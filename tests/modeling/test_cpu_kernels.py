import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.modeling import cpu_kernels
from mm_ovseg.modeling.cpu_kernels import (
    ChunkedAttention,
    OneDNNLinear,
    chunked_attention,
    fast_attention,
    use_onednn,
)


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


def test_other_devices_are_left_alone():
    assert isinstance(fast_attention(torch.device("cpu")), ChunkedAttention)
    assert not isinstance(fast_attention(torch.device("cuda")), ChunkedAttention)
    layer = OneDNNLinear.like(nn.Linear(8, 8)).requires_grad_(False).to("meta")
    assert layer(torch.empty(3, 8, device="meta")).shape == (3, 8)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("gelu", [False, True])
def test_a_onednn_layer_is_the_linear_layer_that_it_stands_for(bias, gelu):
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


@pytest.mark.skipif(not cpu_kernels.HAS_ONEDNN, reason="this PyTorch has no oneDNN")
def test_the_kernel_runs_where_nothing_learns_and_only_there(monkeypatch):
    layer, x = OneDNNLinear.like(nn.Linear(8, 8)), torch.randn(3, 8)
    assert not layer._can_run(x)
    layer.requires_grad_(False)
    assert layer._can_run(x) and not layer._can_run(x.clone().requires_grad_()) and not layer._can_run(x.double())
    monkeypatch.setattr(cpu_kernels, "HAS_ONEDNN", False)
    assert not layer._can_run(x)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3_qkvb"])
def test_with_onednn_a_transformer_keeps_its_names_and_its_output(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, depth=2, img_size=64).eval()
    names, image = set(model.state_dict()), torch.randn(2, 3, 64, 64)
    expected = model.forward_features(image)
    use_onednn(model)
    assert set(model.state_dict()) == names
    assert any(isinstance(module, OneDNNLinear) and module.gelu for module in model.modules())
    torch.testing.assert_close(model.forward_features(image), expected, rtol=1e-4, atol=1e-5)
