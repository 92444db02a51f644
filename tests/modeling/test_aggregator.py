"""The aggregator against a plain formulation: concatenated guidance, explicit attention matrices, 256 padded tokens."""

import pytest
import torch
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.aggregator import (
    ClassAggregation,
    CostVolumeAggregator,
    SpatialAggregation,
    shifted_window_mask,
)
from tests.attention_kernels import check_attention_is_fused


def randomize(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module.eval()


def plain_class_aggregation(module, x, guidance):
    batch, classes, width, height, columns = x.shape
    out = torch.empty_like(x)
    for image in range(batch):
        pooled = F.avg_pool2d(x[image], module.pooling)  # (T, D, h', w')
        result = torch.empty_like(pooled)
        for row in range(pooled.shape[2]):
            for column in range(pooled.shape[3]):
                padding = max(module.padded_classes - classes, 0)
                tokens = torch.cat([pooled[:, :, row, column], module.padding_token.expand(padding, -1)])
                guides = torch.cat([guidance[image], module.padding_guidance.expand(padding, -1)])
                normed = module.attention_norm(tokens)
                both = torch.cat([normed, guides], dim=1)
                query, key, value = module.query(both), module.key(both), module.value(normed)
                heads = []
                for q, k, v in zip(*(t.chunk(module.heads, dim=1) for t in (query, key, value)), strict=True):
                    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).T
                    heads.append(weights @ v / (weights.sum(dim=1, keepdim=True) + 1e-6))
                tokens = tokens + torch.cat(heads, dim=1)
                tokens = tokens + module.mlp(module.mlp_norm(tokens))
                result[:, :, row, column] = tokens[:classes]
        out[image] = F.interpolate(result, (height, columns), mode="bilinear", align_corners=True)
    return x + out


def plain_window_block(block, x, guidance):
    """x (T, h, w, D) of one image, guidance (h, w, G) normalised."""
    size, shift = block.window_size, block.shift
    height, width = x.shape[1:3]
    normed = block.attention_norm(x)
    both = torch.cat([normed, guidance.expand(len(x), -1, -1, -1)], dim=3)
    query, key, value = block.query(both), block.key(both), block.value(normed)
    attended = torch.zeros_like(value)
    # A token attends to those in its shifted window that lie on the same side of every cut the shift made.
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    window = ((rows - shift) % height) // size * 1000 + ((columns - shift) % width) // size
    side = (rows < shift).long() * 2 + (columns < shift).long()
    for klass in range(len(x)):
        q, k, v = (t[klass].flatten(0, 1) for t in (query, key, value))
        heads = []
        for qh, kh, vh in zip(*(t.chunk(block.heads, dim=1) for t in (q, k, v)), strict=True):
            scores = qh @ kh.T / qh.shape[1] ** 0.5
            scores = scores.masked_fill(window.flatten()[:, None] != window.flatten(), float("-inf"))
            scores = scores + (side.flatten()[:, None] != side.flatten()) * -100.0
            heads.append(scores.softmax(dim=1) @ vh)
        attended[klass] = torch.cat(heads, dim=1).view(height, width, -1)
    x = x + block.output(attended)
    return x + block.mlp(block.mlp_norm(x))


@pytest.mark.parametrize("classes", [1, 3, 16, 20])
def test_class_aggregation_equals_padding_every_class_list(classes):
    module = randomize(ClassAggregation(width=8, guidance_width=6, heads=2, pooling=2, padded_classes=16))
    x, guidance = torch.randn(2, classes, 8, 4, 6), torch.randn(2, classes, 6)
    torch.testing.assert_close(module(x, guidance), plain_class_aggregation(module, x, guidance), rtol=1e-4, atol=1e-4)


def test_spatial_aggregation_equals_explicit_attention_with_concatenated_guidance():
    module = randomize(SpatialAggregation(width=8, guidance_width=6, heads=2, grid_size=8, window_size=4))
    assert [block.shift for block in module.blocks] == [0, 2]
    x, guidance = torch.randn(2, 3, 8, 8, 8), torch.randn(2, 6, 8, 8)
    expected = []
    for image in range(2):
        maps = x[image].permute(0, 2, 3, 1)
        normed = module.guidance_norm(guidance[image].permute(1, 2, 0))
        for block in module.blocks:
            maps = plain_window_block(block, maps, normed)
        expected.append(maps.permute(0, 3, 1, 2))
    torch.testing.assert_close(module(x, guidance), torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_shifted_window_mask_parts_what_the_shift_brought_together():
    mask = shifted_window_mask(grid_size=4, window_size=2, shift=1)
    assert mask.shape == (4, 4, 4)
    assert (mask[0] == 0).all()  # the first window is whole
    assert mask[-1].unique().tolist() == [-100.0, 0.0]
    assert (mask[-1].diagonal() == 0).all()
    assert (mask[-1] == 0).sum() == 4  # its four tokens come from four corners


def test_one_window_over_the_whole_grid_is_not_shifted():
    module = SpatialAggregation(width=8, guidance_width=6, heads=2, grid_size=4, window_size=4)
    assert [block.shift for block in module.blocks] == [0, 0]


def build_aggregator(**changes):
    arguments = {
        "layers": 1,
        "width": 8,
        "heads": 2,
        "grid_size": 4,
        "window_size": 2,
        "dense_channels": 5,
        "text_channels": 5,
        "appearance_width": 6,
        "text_width": 7,
        "class_pooling": 2,
        "padded_classes": 16,
    }
    return CostVolumeAggregator(**{**arguments, **changes})


def test_the_order_of_the_classes_does_not_matter():
    aggregator = randomize(build_aggregator())
    cost, text = torch.randn(1, 5, 8, 4, 4), torch.randn(1, 5, 5)
    appearance = aggregator.project_appearance(torch.randn(1, 5, 4, 4))
    order = torch.tensor([3, 0, 4, 1, 2])
    reordered = aggregator(cost[:, order], appearance, text[:, order])
    torch.testing.assert_close(reordered, aggregator(cost, appearance, text)[:, order], rtol=1e-4, atol=1e-4)


def test_every_parameter_gets_a_gradient():
    aggregator = build_aggregator()
    appearance = aggregator.project_appearance(torch.randn(1, 5, 4, 4))
    aggregator(torch.randn(1, 3, 8, 4, 4), appearance, torch.randn(1, 3, 5)).sum().backward()
    assert [name for name, parameter in aggregator.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("change", [{"window_size": 3}, {"window_size": 0}, {"class_pooling": 3}, {"heads": 3}])
def test_sizes_that_do_not_divide_are_refused(change):
    with pytest.raises(ConfigError, match="must"):
        build_aggregator(**change)


@torch.no_grad()
def test_shifted_windows_run_the_fused_kernel():
    aggregator = build_aggregator()
    inputs = torch.randn(1, 3, 8, 4, 4), aggregator.project_appearance(torch.randn(1, 5, 4, 4)), torch.randn(1, 3, 5)
    assert any(block.shift for spatial in aggregator.spatial for block in spatial.blocks)
    check_attention_is_fused(lambda: aggregator(*inputs))
