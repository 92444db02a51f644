import random

import numpy as np
import torch

from mm_ovseg.randomness import derived_seed, seeded


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_a_seed_decides_all_generators_and_nothing_remains_of_it():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    undisturbed = [draw(), draw()]
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    first = draw()
    with seeded(7):
        inside = draw()
    assert [first, draw()] == undisturbed
    with seeded(7):
        assert draw() == inside
    with seeded(8):
        assert all(new != old for new, old in zip(draw(), inside, strict=True))


def test_every_place_has_a_seed_of_its_own():
    places = [(seed, purpose, a, b) for seed in range(3) for purpose in "st" for a in range(20) for b in range(20)]
    seeds = {derived_seed(*place) for place in places}
    assert len(seeds) == len(places) and all(0 <= seed < 2**32 for seed in seeds)
    assert derived_seed(1, "s", 2) != derived_seed(1, "s", 2, 1)
