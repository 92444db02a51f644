import pytest
import torch
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.decoder import GuidedDecoder, GuidedUpsampling


def build(encoders=2):
    torch.manual_seed(0)
    return GuidedDecoder(
        in_channels=24, widths=[32, 16], encoder_guidance_channels=[[10, 6]] * encoders, guidance_widths=[8, 4]
    ).eval()


def guidance_of(batch, size):
    return [[torch.randn(batch, 10, 2 * size, 2 * size), torch.randn(batch, 6, 4 * size, 4 * size)] for _ in range(2)]


def test_decoder_equals_concatenating_the_guidance_to_every_class():
    decoder, x, guidance = build(), torch.randn(2, 3, 24, 4, 4), guidance_of(2, 4)
    plain = x.flatten(0, 1)
    for level, upsampling in enumerate(decoder.upsamplings):
        projections = decoder.guidance_projections[level]
        guides = [F.relu(p(maps[level])).repeat_interleave(3, 0) for p, maps in zip(projections, guidance, strict=True)]
        plain = upsampling.guided_conv(torch.cat([upsampling.up(plain), *guides], dim=1))
        plain = F.relu(upsampling.guided_norm(plain))
        plain = F.relu(upsampling.norm(upsampling.conv(plain)))
    plain = decoder.logits(plain).view(2, 3, 16, 16)
    torch.testing.assert_close(decoder(x, decoder.project_guidance(guidance)), plain, rtol=1e-4, atol=1e-5)


def test_maps_lie_channels_last_in_inference_with_the_same_logits():
    decoder, x, guidance = build(), torch.randn(2, 3, 24, 4, 4), guidance_of(2, 4)
    layouts = []
    for upsampling in decoder.upsamplings:
        for layer in (upsampling.up, upsampling.guided_norm, upsampling.conv, upsampling.norm):
            layer.register_forward_pre_hook(
                lambda _, maps: layouts.append(maps[0].is_contiguous(memory_format=torch.channels_last))
            )
    expected = decoder(x, decoder.project_guidance(guidance))
    assert layouts == [False] * 8
    with torch.no_grad():
        found = decoder(x, decoder.project_guidance(guidance))
    assert layouts[8:] == [True] * 8
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_guidance_of_one_encoder_only():
    decoder = build(encoders=1)
    guidance = decoder.project_guidance(guidance_of(1, 4)[:1])
    assert decoder(torch.randn(1, 2, 24, 4, 4), guidance).shape == (1, 2, 16, 16)


def test_an_upsampling_without_guidance():
    torch.manual_seed(0)
    upsampling = GuidedUpsampling(in_channels=8, guidance_channels=0, up_channels=16, out_channels=16)
    x = torch.randn(2, 3, 8, 4, 4)
    plain = F.relu(upsampling.guided_norm(upsampling.guided_conv(upsampling.up(x.flatten(0, 1)))))
    plain = F.relu(upsampling.norm(upsampling.conv(plain))).unflatten(0, (2, 3))
    torch.testing.assert_close(upsampling(x), plain)


def test_widths_must_fit_the_group_norm():
    with pytest.raises(ConfigError, match="multiple of 16"):
        GuidedDecoder(in_channels=24, widths=[20, 16], encoder_guidance_channels=[[4, 4]], guidance_widths=[8, 4])
