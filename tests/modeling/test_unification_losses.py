import itertools
import math

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.modeling.unification_losses import NEGATIVES, UNIFICATION_LOSS_REGISTRY, unification_loss
from tests.process_group import run_in_group

ALL = torch.ones(1, 2, dtype=torch.bool)


def unit_vectors(*rows):
    return F.normalize(torch.tensor([rows], dtype=torch.float32), dim=2)  # (1, K, D)


def random_tokens(images, places=5, channels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(images, places, channels, generator=generator) for _ in range(2))
    return F.normalize(student, dim=2), F.normalize(teacher, dim=2)


def test_infonce_of_a_hand_computed_case():
    student, teacher = unit_vectors([1, 0], [0, 1]), unit_vectors([1, 0], [1, 1])
    half = math.sqrt(0.5) / 0.5
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(half)))
    second = -math.log(math.exp(half) / (1 + math.exp(half)))
    loss = unification_loss(student, teacher, ALL, name="infonce", temperature=0.5)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-5)
    # The other way round: the first RGB token sees similarities 2 and 0, the second half and half.
    back = (-math.log(math.exp(2) / (math.exp(2) + 1)) + math.log(2)) / 2
    loss = unification_loss(student, teacher, ALL, name="infonce", temperature=0.5, symmetric=True)
    assert loss.item() == pytest.approx(((first + second) / 2 + back) / 2, rel=1e-5)


def test_negatives_of_the_same_image_are_those_of_that_image_alone():
    student, teacher = random_tokens(3)
    valid = torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    arguments = {"name": "infonce", "temperature": 0.1}
    alone = [unification_loss(student[i : i + 1], teacher[i : i + 1], valid[i : i + 1], **arguments) for i in range(3)]
    expected = sum(loss * count for loss, count in zip(alone, valid.sum(dim=1), strict=True)) / valid.sum()
    torch.testing.assert_close(unification_loss(student, teacher, valid, negatives="image", **arguments), expected)
    # There is more to confuse a token with.
    assert unification_loss(student, teacher, valid, negatives="batch", **arguments) > expected


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("name", [name for name, _ in UNIFICATION_LOSS_REGISTRY])
def test_tokens_without_data_count_nowhere(name, negatives, symmetric):
    student, teacher = random_tokens(1, places=6)
    valid = torch.tensor([[True, True, False, True, False, True]])
    arguments = {"name": name, "temperature": 0.07, "negatives": negatives, "symmetric": symmetric}
    whole = unification_loss(student, teacher, valid, **arguments)
    kept = unification_loss(student[:, valid[0]], teacher[:, valid[0]], valid[:, valid[0]], **arguments)
    torch.testing.assert_close(whole, kept)
    student.requires_grad_()
    nothing = unification_loss(student, teacher, torch.zeros_like(valid), **arguments)
    nothing.backward()
    assert nothing.item() == 0 and (student.grad == 0).all()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_an_image_without_data_has_a_gradient_of_zero_beside_one_with_data(negatives, symmetric):
    student, teacher = random_tokens(2)
    valid = torch.tensor([[False] * 5, [True, True, False, True, True]])
    student.requires_grad_()
    temperature = torch.tensor(0.1, requires_grad=True)
    arguments = {"temperature": temperature, "negatives": negatives, "symmetric": symmetric}
    unification_loss(student, teacher, valid, name="infonce", **arguments).backward()
    assert (student.grad[~valid] == 0).all() and (student.grad[valid] != 0).any(dim=1).all()
    assert temperature.grad.isfinite()


def test_a_loss_of_another_shape_is_named(monkeypatch):
    monkeypatch.setitem(UNIFICATION_LOSS_REGISTRY._obj_map, "of_valid", lambda s, t, valid, **_: (s - t).sum(2)[valid])
    student, teacher = random_tokens(2)
    valid = torch.ones(2, 5, dtype=torch.bool)
    with pytest.raises(ConfigError, match=r"CMU.LOSS of_valid returns losses of shape \(10,\).*\(2, 5\)"):
        unification_loss(student, teacher, valid, name="of_valid")


def test_mse_and_l1_sum_over_channels():
    student, teacher = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 0.5]]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    assert unification_loss(student, teacher, valid, name="mse").item() == pytest.approx(1.25)
    assert unification_loss(student, teacher, valid, name="l1").item() == pytest.approx(1.5)


def test_mixed_precision_does_not_blur_similarities():
    student, teacher = random_tokens(2, places=50)
    valid = torch.ones(2, 50, dtype=torch.bool)
    expected = unification_loss(student, teacher, valid, name="infonce", temperature=0.01)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(unification_loss(student, teacher, valid, name="infonce", temperature=0.01), expected)


CASES = [
    *(("infonce", negatives, symmetric) for negatives, symmetric in itertools.product(NEGATIVES, (False, True))),
    ("mse", "batch", False),
    ("l1", "batch", False),
]


def batch_of(rank, emptied):
    """Two images on each rank; of ``emptied`` not one token is valid."""
    generator = torch.Generator().manual_seed(rank)
    sar, rgb = (torch.randn(2, 5, 4, generator=generator) for _ in range(2))
    valid = torch.rand(2, 5, generator=generator) < 0.7
    return sar, F.normalize(rgb, dim=2), valid & (rank != emptied)


def loss_and_gradients(batch, case):
    """Of a student that is one matrix, with a learned temperature."""
    sar, teacher, valid = batch
    weight = torch.linspace(-1, 1, 16).view(4, 4).requires_grad_()
    log_scale = torch.tensor(2.0, requires_grad=True)
    name, negatives, symmetric = case
    student = F.normalize(sar @ weight, dim=2)
    arguments = {"temperature": (-log_scale).exp(), "negatives": negatives, "symmetric": symmetric}
    loss = unification_loss(student, teacher, valid, name=name, **arguments)
    loss.backward()
    scale_gradient = torch.zeros(1) if log_scale.grad is None else log_scale.grad.view(1)
    return torch.cat([loss.detach().view(1), weight.grad.flatten(), scale_gradient])


def of_one_process(rank):
    results = {}
    for emptied, case in itertools.product((None, 1), CASES):
        values = loss_and_gradients(batch_of(rank, emptied), case)
        dist.all_reduce(values)  # what DistributedDataParallel does to gradients
        results[emptied, case] = values / 2
    return results


def test_two_processes_have_the_loss_and_the_gradients_of_one_with_the_whole_batch(tmp_path):
    results = run_in_group(of_one_process, tmp_path)
    for emptied, case in itertools.product((None, 1), CASES):
        both = (torch.cat(parts) for parts in zip(batch_of(0, emptied), batch_of(1, emptied), strict=True))
        expected = loss_and_gradients(both, case)
        assert expected.abs().sum() > 0.1
        for actual in results:
            torch.testing.assert_close(actual[emptied, case], expected, msg=lambda text, case=case: f"{case}: {text}")


def with_batches_of_different_sizes(rank):
    student, teacher = random_tokens(1 + rank)
    with pytest.raises(DataError, match=r"batches of different sizes \(\(5, 4\), \(10, 4\)\)"):
        unification_loss(student, teacher, torch.ones(1 + rank, 5, dtype=torch.bool), name="infonce")


def test_processes_with_batches_of_different_sizes_end_in_one_sentence(tmp_path):
    run_in_group(with_batches_of_different_sizes, tmp_path)
