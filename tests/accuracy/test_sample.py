import numpy as np
import pytest

from mm_ovseg.accuracy.sample import allocate, draw_pixels
from mm_ovseg.errors import ConfigError


@pytest.mark.parametrize("pixels, total, minimum, points", [
    ([200_000, 150_000, 3_200_000, 6_450_000], 640, 75, [75, 75, 162, 328]),  # Olofsson et al. 2014: 75 for the rare
    ([500, 500], 11, 2, [6, 5]),
    ([10, 90], 20, 2, [2, 18]),  # exactly the minimum
    ([1, 3, 1000], 60, 5, [1, 3, 56]),  # all pixels of the smallest
    ([4, 6], 10, 50, [4, 6]),  # every pixel
    ([7], 3, 2, [3]),
])  # fmt: skip
def test_points_follow_the_sizes_of_strata_but_rare_ones_have_the_minimum(pixels, total, minimum, points):
    assert allocate(pixels, total, minimum) == points


def test_every_allocation_adds_up():
    generator = np.random.default_rng(0)
    for _ in range(200):
        pixels = (10 ** generator.uniform(0, 7, generator.integers(1, 9))).astype(int).tolist()
        least = sum(min(20, size) for size in pixels)
        total = int(generator.integers(least, min(sum(pixels), least + 3000) + 1))
        points = allocate(pixels, total, 20)
        assert sum(points) == total
        assert all(min(20, size) <= count <= size for count, size in zip(points, pixels, strict=True))


@pytest.mark.parametrize("total", [99, 1001])
def test_too_few_or_too_many_points(total):
    with pytest.raises(ConfigError, match=f"--n is {total}, but 50 points in each of 2 strata are 100"):
        allocate([500, 500], total, 50)


def strips_of(strata, height):
    return ((top, strata[top : top + height]) for top in range(0, len(strata), height))


def draw(strata, points, seed=0, height=7):
    return draw_pixels(strips_of(strata, height), np.bincount(strata.ravel(), minlength=256), points, seed)


@pytest.fixture(scope="module")
def strata():
    return np.random.default_rng(3).choice([0, 2, 254, 255], (40, 60), p=[0.1, 0.5, 0.1, 0.3]).astype(np.uint8)


def points_of(**counts):
    points = np.zeros(256, np.int64)
    for name, count in counts.items():
        points[int(name[1:])] = count
    return points


def test_distinct_pixels_of_each_stratum_in_an_order_that_does_not_tell_it(strata):
    rows, columns, drawn = draw(strata, points_of(_0=20, _2=30, _254=10))
    assert len({*zip(rows.tolist(), columns.tolist(), strict=True)}) == 60
    assert (strata[rows, columns] == drawn).all()
    assert np.bincount(drawn)[[0, 2, 254]].tolist() == [20, 30, 10]
    assert (np.diff(drawn) != 0).sum() > 20 and (np.diff(rows) < 0).sum() > 15


def test_a_seed_and_the_pixels_alone_decide(strata):
    points = points_of(_0=20, _2=30)
    one, other = draw(strata, points, height=1), draw(strata, points, height=40)
    assert all((first == second).all() for first, second in zip(one, other, strict=True))
    again = draw(strata, points, seed=1)
    assert (one[0] != again[0]).any()


def test_every_pixel_is_as_likely(strata):
    counts = np.zeros(strata.shape)
    for seed in range(400):
        rows, columns, _ = draw(strata, points_of(_0=24, _2=24), seed=seed, height=40)
        counts[rows, columns] += 1
    assert not counts[(strata != 0) & (strata != 2)].any()
    for value in (0, 2):
        found = counts[strata == value]
        expected = 400 * 24 / found.size
        statistic = ((found - expected) ** 2 / expected / (1 - 24 / found.size)).sum()
        assert abs(statistic - found.size) < 4.5 * np.sqrt(2 * found.size)
