import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F

from mm_ovseg.modeling.losses import alignment_loss, segmentation_loss

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


def unit_vectors(*rows):
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def test_infonce_of_a_hand_computed_case():
    student, teacher = unit_vectors([1, 0], [0, 1]), unit_vectors([1, 0], [1, 1])
    loss = alignment_loss(student, teacher, torch.ones(2, dtype=torch.bool), name="infonce", temperature=0.5)
    half = math.sqrt(0.5) / 0.5
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(half)))
    second = -math.log(math.exp(half) / (1 + math.exp(half)))
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["infonce", "mse", "l1"])
def test_tokens_without_data_count_nowhere(name):
    student, teacher = F.normalize(torch.randn(6, 4), dim=1), F.normalize(torch.randn(6, 4), dim=1)
    valid = torch.tensor([True, True, False, True, False, True])
    whole = alignment_loss(student, teacher, valid, name=name, temperature=0.07)
    kept = alignment_loss(student[valid], teacher[valid], torch.ones(4, dtype=torch.bool), name=name, temperature=0.07)
    torch.testing.assert_close(whole, kept)
    nothing = alignment_loss(student, teacher, torch.zeros(6, dtype=torch.bool), name=name, temperature=0.07)
    assert nothing.item() == 0


def tokens_of(rank):
    generator = torch.Generator().manual_seed(rank)
    student, teacher = (F.normalize(torch.randn(5, 4, generator=generator), dim=1) for _ in range(2))
    return student, teacher, torch.tensor([True, True, rank == 0, True, True])


def one_of_two_processes(rank, meeting_point, results):
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=2)
    results[rank] = alignment_loss(*tokens_of(rank), name="infonce", temperature=0.1).item()
    dist.destroy_process_group()


def test_infonce_takes_its_negatives_from_all_processes(tmp_path):
    results = multiprocessing.get_context("spawn").Manager().dict()
    multiprocessing.spawn(one_of_two_processes, args=(tmp_path / "meeting", results), nprocs=2)
    student, teacher, valid = (torch.cat(parts) for parts in zip(tokens_of(0), tokens_of(1), strict=True))
    scores = (student @ teacher.T / 0.1).masked_fill(~valid, -math.inf)
    losses = -scores.log_softmax(dim=1).diagonal()
    assert results[0] == pytest.approx(losses[:5][valid[:5]].mean().item(), rel=1e-5)
    assert results[1] == pytest.approx(losses[5:][valid[5:]].mean().item(), rel=1e-5)


def test_mse_and_l1_sum_over_channels():
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    valid = torch.ones(1, dtype=torch.bool)
    assert alignment_loss(student, teacher, valid, name="mse", temperature=1).item() == pytest.approx(1.25)
    assert alignment_loss(student, teacher, valid, name="l1", temperature=1).item() == pytest.approx(1.5)
