import math

import pytest
import torch
import torch.nn.functional as F

from mm_ovseg.modeling.losses import segmentation_loss

BCE = {"name": "binary_cross_entropy", "ignore_label": 255}


def test_binary_cross_entropy_of_a_hand_computed_case():
    logits = torch.tensor([[[[0.0, 2.0]], [[0.0, -1.0]]]])  # two classes, two pixels
    target = torch.tensor([[[1, 255]]])
    at_pixel = [math.log(2), math.log(2)]
    ignored = [math.log(1 + math.exp(2.0)), math.log(1 + math.exp(-1.0))]  # negatives of both classes
    loss = segmentation_loss(logits, target, ignored_as_negative=True, **BCE)
    assert loss.item() == pytest.approx(sum(at_pixel + ignored) / 4)
    loss = segmentation_loss(logits, target, ignored_as_negative=False, **BCE)
    assert loss.item() == pytest.approx(sum(at_pixel) / 2)


def test_nothing_to_count_is_a_loss_of_zero_with_a_gradient_of_zero():
    for name in ("binary_cross_entropy", "cross_entropy"):
        logits = torch.randn(1, 3, 2, 2, requires_grad=True)
        target = torch.full((1, 2, 2), 255)
        loss = segmentation_loss(logits, target, name=name, ignore_label=255, ignored_as_negative=False)
        loss.backward()
        assert loss.item() == 0 and (logits.grad == 0).all()


def test_cross_entropy_leaves_ignored_pixels_out():
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    target[0] = 255
    loss = segmentation_loss(logits, target, name="cross_entropy", ignore_label=255, ignored_as_negative=True)
    torch.testing.assert_close(loss, F.cross_entropy(logits[1:], target[1:]))
