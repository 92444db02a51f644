import torch

from mm_ovseg.modeling.class_selection import most_similar_classes, restore_classes, take_classes


def test_each_image_has_its_own_classes_and_the_others_get_no_probability():
    torch.manual_seed(0)
    cost = torch.zeros(2, 1, 4, 3, 3)
    for image, (first, second) in enumerate(((3, 0), (1, 2))):
        cost[image, 0, first, 1, 2], cost[image, 0, second, 0, 0] = 0.9, 0.5
    indices = most_similar_classes(cost, 2)
    assert indices.tolist() == [[3, 0], [1, 2]]
    logits = torch.randn(2, 4, 5, 5)
    taken = take_classes(logits, indices, dim=1)
    restored = restore_classes(taken, indices, 4)
    for image, chosen in enumerate(indices.tolist()):
        assert torch.equal(taken[image], logits[image, chosen])
        assert torch.equal(restored[image, chosen], logits[image, chosen])
        others = [index for index in range(4) if index not in chosen]
        assert (restored[image, others].sigmoid() < 1e-30).all()
