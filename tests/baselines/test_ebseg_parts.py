"""Parts of EBSeg that need no model."""

import itertools

import torch

from mm_ovseg.baselines.ebseg.class_scores import Exponents, balanced_class_scores
from mm_ovseg.baselines.ebseg.clip_stages import recognition_bias
from mm_ovseg.baselines.ebseg.deformable_attention import DeformableAttention, cell_centres
from mm_ovseg.baselines.ebseg.meta_arch import _masks_of_size
from mm_ovseg.baselines.ebseg.transformer_decoder import _blocked, mask_pooled


def test_padding_is_cut_off_and_the_rest_is_resized():
    rows, columns = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(24) + 0.5, indexing="ij")
    places = 4 * torch.stack([rows, columns])  # of the cells of masks, in pixels of the padded image
    ours = _masks_of_size(places, (64, 96), (50, 70), (25, 140))[:, 2:-2, 6:-6]  # bilinear, but for the border
    expected = torch.meshgrid(2 * (torch.arange(25) + 0.5), (torch.arange(140) + 0.5) / 2, indexing="ij")
    torch.testing.assert_close(ours, torch.stack(expected)[:, 2:-2, 6:-6])


def test_class_scores_are_products_of_powers():
    logits = torch.randn(3, 2, 5, 4)  # (decoder, pooled, recognition; B, Q, T + 1)
    exponents = torch.tensor(Exponents(seen=0.1, unseen=0.3, recognition=0.7).of_classes([True, False, True]))
    torch.testing.assert_close(exponents, torch.tensor([[0.2, 0.1, 0.7], [0.0, 0.3, 0.7], [0.2, 0.1, 0.7]]))
    scores = balanced_class_scores(*logits, exponents).exp()
    product = (logits[..., :3].softmax(-1) ** exponents.T[:, None, None]).prod(0)
    no_object = logits[0].softmax(-1)[..., -1:]
    expected = torch.cat([product / product.sum(-1, keepdim=True) * (1 - no_object), no_object], dim=-1)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)
    certain = torch.tensor([[[1000.0, 0.0, 0.0, 0.0]]])
    assert balanced_class_scores(certain, certain, certain, exponents).isfinite().all()


def test_deformable_attention_samples_each_level():
    torch.manual_seed(0)
    sizes, heads, points = [(2, 3), (4, 5)], 2, 3
    attention = DeformableAttention(8, heads, levels=2, points=points)
    steps = attention.offsets.bias.view(heads, 2, points, 2)
    assert torch.equal(steps[0, 1], torch.tensor([[1.0, 0], [2, 0], [3, 0]])) and (attention.weights.weight == 0).all()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    reference = cell_centres(sizes, torch.device("cpu"))
    assert reference.shape == (26, 2) and torch.equal(reference[4], torch.tensor([0.5, 0.75]))
    query, value = torch.randn(2, 1, 26, 8)
    ours = attention(query, value, reference, sizes)
    offsets = attention.offsets(query)[0].view(26, heads, 2, points, 2)
    weights = attention.weights(query)[0].view(26, heads, 2 * points).softmax(-1).view(26, heads, 2, points)
    parts = attention.value(value)[0].split([6, 20])
    maps = [part.view(*size, heads, 4) for part, size in zip(parts, sizes, strict=True)]
    result = torch.zeros(26, heads, 4)
    for n, h, level, point in torch.cartesian_prod(*map(torch.arange, (26, heads, 2, points))).tolist():
        height, width = sizes[level]
        x, y = reference[n] * torch.tensor([width, height]) + offsets[n, h, level, point] - 0.5
        for row, column in itertools.product((y.floor(), y.floor() + 1), (x.floor(), x.floor() + 1)):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - (y - row).abs()) * (1 - (x - column).abs()) * weights[n, h, level, point]
                result[n, h] += share * maps[level][int(row), int(column), h]
    torch.testing.assert_close(ours[0], attention.output(result.flatten(1)), rtol=1e-4, atol=1e-5)


def test_the_bias_of_recognition():
    bias = torch.rand(1, 2, 3, 4, 6)
    full = recognition_bias(bias, (2, 3))
    assert full.shape == (1, 2, 10, 10)  # three SOS tokens, CLS, six patches
    assert (full[..., :3, :3].diagonal(dim1=-2, dim2=-1) == 0).all() and (full[..., 3:, 3:] == 0).all()
    assert full[0, 0, 1, 0] == full[0, 1, 4, 2] == full[0, 0, 2, 3] == -100
    assert full[0, 1, 2, 4 + 3] == bias[0, 1, 2, 2:, :2].max()


def test_pooling_over_an_empty_mask_gives_zeros():
    masks = torch.tensor([[[[1.0, -1.0]], [[-1.0, -1.0]]]])
    assert torch.equal(mask_pooled(torch.tensor([[[[3.0, 5.0]]]]), masks), torch.tensor([[[3.0], [0.0]]]))


def test_attention_is_blocked_outside_a_mask_unless_that_is_empty():
    masks = torch.full((1, 2, 4, 6), -3.0)
    masks[0, 0, :2] = 3
    blocked = _blocked(masks, (2, 3))
    assert blocked[0].tolist() == [[False] * 3 + [True] * 3, [False] * 6]
