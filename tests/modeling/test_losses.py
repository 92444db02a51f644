import itertools
import math

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.losses import SEGMENTATION_LOSS_REGISTRY, segmentation_loss
from tests.process_group import run_in_group

BCE = {"name": "binary_cross_entropy", "ignore_label": 255}


def test_binary_cross_entropy_of_a_hand_computed_case():
    logits = torch.tensor([[[[0.0, 2.0]], [[0.0, -1.0]]]])  # two classes, two pixels
    target = torch.tensor([[[1, 255]]])
    at_pixel = [math.log(2), math.log(2)]
    ignored = [math.log(1 + math.exp(2.0)), math.log(1 + math.exp(-1.0))]  # negatives of both classes
    loss = segmentation_loss([(logits, target)], ignored_as_negative=True, **BCE)
    assert loss.item() == pytest.approx(sum(at_pixel + ignored) / 4)
    loss = segmentation_loss([(logits, target)], ignored_as_negative=False, **BCE)
    assert loss.item() == pytest.approx(sum(at_pixel) / 2)


def test_nothing_to_count_is_a_loss_of_zero_with_a_gradient_of_zero():
    for name in ("binary_cross_entropy", "cross_entropy"):
        logits = torch.randn(1, 3, 2, 2, requires_grad=True)
        target = torch.full((1, 2, 2), 255)
        loss = segmentation_loss([(logits, target)], name=name, ignore_label=255, ignored_as_negative=False)
        loss.backward()
        assert loss.item() == 0 and (logits.grad == 0).all()


def test_cross_entropy_leaves_ignored_pixels_out():
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    target[0] = 255
    loss = segmentation_loss([(logits, target)], name="cross_entropy", ignore_label=255, ignored_as_negative=True)
    torch.testing.assert_close(loss, F.cross_entropy(logits[1:], target[1:]))


def test_a_loss_that_returns_a_scalar_is_named(monkeypatch):
    monkeypatch.setitem(SEGMENTATION_LOSS_REGISTRY._obj_map, "scalar", lambda logits, target, **_: logits.mean())
    batch = [(torch.randn(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))]
    with pytest.raises(ConfigError, match="LOSS.NAME scalar does not return losses and weights"):
        segmentation_loss(batch, name="scalar", ignore_label=255, ignored_as_negative=True)


SIZES = [[(4, 4), (4, 4)], [(4, 6), (2, 2)]]  # of the images of two processes
CASES = list(itertools.product(("binary_cross_entropy", "cross_entropy"), (True, False)))


def labels_of(rank):
    """Of each image, (1, H, W); most pixels of the first process and few of the second are ignored."""
    generator = torch.Generator().manual_seed(rank)
    labels = [torch.randint(0, 3, (1, *size), generator=generator) for size in SIZES[rank]]
    return [label.where(torch.rand(label.shape, generator=generator) < (0.2, 0.9)[rank], 255) for label in labels]


def loss_and_gradient(labels, case):
    """Of logits that are one vector everywhere."""
    weight = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    batch = [(weight[None, :, None, None].expand(-1, -1, *label.shape[1:]), label) for label in labels]
    loss = segmentation_loss(batch, name=case[0], ignore_label=255, ignored_as_negative=case[1])
    loss.backward()
    return torch.cat([loss.detach().view(1), weight.grad])


def of_one_process(rank):
    results = {}
    for case in CASES:
        values = loss_and_gradient(labels_of(rank), case)
        dist.all_reduce(values)  # what DistributedDataParallel does to gradients
        results[case] = values / 2
    return results


def test_two_processes_have_the_loss_and_the_gradient_of_one_with_the_whole_batch(tmp_path):
    results = run_in_group(of_one_process, tmp_path)
    for case in CASES:
        expected = loss_and_gradient(labels_of(0) + labels_of(1), case)
        alone = [loss_and_gradient(labels_of(rank), case) for rank in range(2)]
        assert not torch.allclose(sum(alone) / 2, expected)
        for actual in results:
            torch.testing.assert_close(actual[case], expected)
