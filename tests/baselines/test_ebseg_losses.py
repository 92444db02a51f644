"""The matching and the losses of EBSeg, on tensors of a few numbers."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from mm_ovseg.baselines.ebseg import losses, matching
from mm_ovseg.baselines.ebseg.losses import StagePrediction, ebseg_losses, query_classes, structure_loss
from mm_ovseg.baselines.ebseg.matching import Targets, assign, matching_cost
from tests.process_group import run_in_group

CLASSES, QUERIES, STAGES = 3, 5, 2


def predictions(images, seed=0):
    torch.manual_seed(seed)
    return [
        StagePrediction(*torch.randn(2, images, QUERIES, CLASSES + 1), torch.randn(images, QUERIES, 4, 4))
        for _ in range(STAGES)
    ]


def fixed_points(monkeypatch):
    def grid(count, like):
        centre = (torch.arange(8) + 0.5) / 8
        return torch.cartesian_prod(centre, centre).to(like).expand(count, -1, -1)

    monkeypatch.setattr(matching, "random_points", lambda count, points, like: grid(count, like))
    monkeypatch.setattr(losses, "uncertain_points", lambda masks: grid(masks.shape[0], masks))


def test_targets_are_the_classes_of_an_image():
    labels = torch.tensor([[[0, 2], [255, -1]], [[255, 255], [255, 255]]])
    targets = Targets.from_labels(labels, CLASSES, torch.float32)
    assert targets.present.tolist() == [[True, False, True], [False] * 3]
    assert targets.masks[0, 2].tolist() == [[0, 1], [0, 0]] and targets.masks.sum() == 2


def test_the_cost_is_that_of_classes_and_of_masks_at_the_points(monkeypatch):
    fixed_points(monkeypatch)
    class_logits, masks = torch.randn(1, QUERIES, CLASSES + 1), torch.randn(1, QUERIES, 8, 8)
    targets = Targets.from_labels(torch.randint(0, CLASSES, (1, 8, 8)), CLASSES, torch.float32)
    cost = matching_cost(class_logits, masks, targets)
    assert cost.shape == (1, QUERIES, CLASSES)
    for query in range(QUERIES):
        inside = masks[0, query].sigmoid()  # the points are the centres of all pixels
        for name in range(CLASSES):
            truth = targets.masks[0, name]
            dice = 1 - (2 * (inside * truth).sum() + 1) / (inside.sum() + truth.sum() + 1)
            expected = 5 * F.binary_cross_entropy(inside, truth) + 5 * dice
            expected -= 2 * class_logits[0, query].softmax(-1)[name]
            torch.testing.assert_close(cost[0, query, name], expected)


def test_the_assignment_is_the_cheapest_and_leaves_out_absent_classes():
    costs = torch.tensor([[0.0, 9, 9], [1, 2, 9], [9, 9, 9], [9, 9, 9]])[None, None]  # (S, B, Q, T)
    matches = assign(costs, torch.tensor([[True, True, False]]))
    assert matches.query[0, 0, :2].tolist() == [0, 1] and matches.found.tolist() == [[[True, True, False]]]
    nothing = assign(costs, torch.zeros(1, 3, dtype=torch.bool))
    assert not nothing.found.any()
    fewer_queries = assign(costs[:, :, :2], torch.ones(1, 3, dtype=torch.bool))
    assert fewer_queries.found.sum() == 2
    diverged = assign(torch.full((1, 1, 4, 3), float("nan")), torch.ones(1, 3, dtype=torch.bool))
    assert diverged.found.all() and len(set(diverged.query[0, 0].tolist())) == 3


def test_queries_without_a_match_are_no_object():
    query, found = torch.tensor([[4, 0, 1]]), torch.tensor([[True, False, True]])
    assert query_classes(query, found, QUERIES).tolist() == [[3, 2, 3, 3, 0]]


def test_the_losses_of_a_perfect_prediction_are_small(monkeypatch):
    fixed_points(monkeypatch)
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[:, :4] = 2
    masks = torch.full((1, QUERIES, 8, 8), -50.0)
    masks[:, 3, :4], masks[:, 1, 4:] = 50, 50  # query 3 is class 2, query 1 is class 0
    classes = torch.tensor([[3, 0, 3, 2, 3]])
    logits = 50.0 * F.one_hot(classes, CLASSES + 1)
    text = F.normalize(torch.randn(CLASSES, 6), dim=-1)
    embeddings = text[classes.clamp(max=2)]
    terms = ebseg_losses([StagePrediction(logits, logits, masks)] * STAGES, embeddings, text, labels)
    assert len(terms) == 4 * STAGES + 1 and "1_loss_ce_0" in terms and "loss_dice" in terms
    assert all(value.item() == pytest.approx(0, abs=1e-4) for value in terms.values())


def test_images_without_labels_have_losses_of_no_object_alone():
    stages, text = predictions(2), torch.randn(CLASSES, 6)
    for stage in stages:
        stage.masks.requires_grad_(True)
    embeddings = torch.randn(2, QUERIES, 6, requires_grad=True)
    terms = ebseg_losses(stages, embeddings, text, torch.full((2, 8, 8), 255))
    for name, value in terms.items():
        assert (value > 0) if "loss_ce" in name else (value == 0), name
    sum(terms.values()).backward()
    assert (embeddings.grad == 0).all() and all((stage.masks.grad == 0).all() for stage in stages)


def test_the_structure_loss_compares_products_of_matched_queries():
    embeddings, text = torch.randn(1, QUERIES, 6), torch.randn(CLASSES, 6)
    query, found = torch.tensor([[4, 0, 2]]), torch.tensor([[True, False, True]])
    ours, theirs = embeddings[0, [4, 2]], text[[0, 2]]
    expected = F.mse_loss(ours @ ours.T, theirs @ theirs.T)
    torch.testing.assert_close(structure_loss(embeddings, text, query, found)[0], expected)
    assert structure_loss(embeddings, text, query, torch.zeros_like(found)) == 0


def losses_of(images):
    """Of some of four images, with different numbers of classes."""
    labels = torch.zeros(4, 8, 8, dtype=torch.int64)
    labels[1, :3], labels[1, 3:5], labels[2], labels[3, :2] = 1, 2, 255, 2
    stages = [
        StagePrediction(stage.class_logits[images], stage.recognition_logits[images], stage.masks[images])
        for stage in predictions(4)
    ]
    torch.manual_seed(3)
    embeddings, text = torch.randn(4, QUERIES, 6), torch.randn(CLASSES, 6)
    with pytest.MonkeyPatch.context() as monkeypatch:
        fixed_points(monkeypatch)
        return torch.stack(list(ebseg_losses(stages, embeddings[images], text, labels[images]).values()))


def of_one_process(rank):
    values = losses_of([0, 1] if rank == 0 else [2, 3])
    dist.all_reduce(values)  # what DistributedDataParallel does to gradients
    return values / 2


def test_two_processes_have_the_losses_of_one_with_the_whole_batch(tmp_path):
    for result in run_in_group(of_one_process, tmp_path):
        torch.testing.assert_close(result, losses_of([0, 1, 2, 3]))
