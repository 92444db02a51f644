import pytest
import timm
import torch
import torch.nn.functional as F

from mm_ovseg.modeling.backbone import attention
from mm_ovseg.modeling.backbone.attention import ChunkedAttention, chunked_attention


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
            attention, "chunked_attention", lambda *a, **k: (self.append(a[0].dtype), original(*a, **k))[1]
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
