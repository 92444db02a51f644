from pathlib import Path

import numpy as np
import pytest

from mm_ovseg.accuracy.checks import check_distinct, check_numbers, check_spread, check_training
from mm_ovseg.accuracy.population import BLOCKS_PER_SIDE, Census, block_of
from mm_ovseg.errors import DataError

PATH = Path("points.gpkg")
SIDE = 320
NAMES = ["water", "road", "forest"]


@pytest.fixture(scope="module")
def world():
    """Strata of a map of 320 x 320 pixels, each in patches; and its census, with a training area in the north west."""
    generator = np.random.default_rng(0)
    patches = generator.choice(3, (20, 20), p=[0.1, 0.3, 0.6])
    strata = np.kron(patches, np.ones((16, 16), np.int64))
    rows, columns = np.indices(strata.shape)
    blocks = block_of(rows, columns, SIDE, SIDE)
    counts = np.zeros((3, BLOCKS_PER_SIDE**2), np.int64)
    np.add.at(counts, (strata, blocks), 1)
    in_training = np.bincount(strata[:80, :80].ravel(), minlength=3)
    pixels = counts.sum(axis=1)
    return strata, Census(np.arange(3, dtype=np.uint8), NAMES, pixels, pixels * 1.0, counts, in_training, "")


def draw(strata, points, seed, where=None):
    """Rows and columns of random pixels of each stratum, among those that ``where`` allows."""
    generator = np.random.default_rng(seed)
    chosen = []
    for value, count in enumerate(points):
        places = np.flatnonzero((strata == value) & (True if where is None else where))
        chosen.append(generator.choice(places, count, replace=False))
    return np.divmod(np.concatenate(chosen), SIDE)


def check(world, rows, columns):
    strata, census = world
    check_spread(PATH, strata[rows, columns], block_of(rows, columns, SIDE, SIDE), census)


@pytest.mark.parametrize("points", [(2, 2, 2), (10, 10, 10), (50, 50, 200)])
def test_random_samples_pass(world, points):
    for seed in range(100):
        check(world, *draw(world[0], points, seed))


def within(rows, columns):
    where = np.zeros((SIDE, SIDE), bool)
    where[rows, columns] = True
    return where


@pytest.mark.parametrize("where", [
    within(slice(0, 80), slice(0, 80)),
    within(slice(120, 220), slice(200, 300)),
    within(slice(0, 320), slice(0, 70)),
    within(slice(130, 190), slice(0, 320)),
])  # fmt: skip
@pytest.mark.parametrize("points", [(15, 15, 15), (40, 50, 100)])
def test_points_in_one_part_of_the_map_are_refused(world, where, points):
    strata = world[0]
    with pytest.raises(DataError, match=r"points.gpkg is not a random sample: of \d+ points.*, \d+ are in one part of"):
        check(world, *draw(strata, points, 0, where))


def test_one_stratum_alone_may_be_crowded(world):
    strata = world[0]
    crowded = (strata != 2) | within(slice(0, 120), slice(0, 320))
    with pytest.raises(DataError, match="of 60 points in the stratum 'forest', "):
        check(world, *draw(strata, (300, 300, 60), 0, crowded))


@pytest.mark.parametrize("height, width", [(320, 320), (5, 1000), (1, 1), (33, 17)])
def test_blocks_of_pixels(height, width):
    rows, columns = np.indices((height, width))
    blocks = block_of(rows, columns, height, width)
    assert blocks[0, 0] == 0 and blocks.max() < BLOCKS_PER_SIDE**2
    assert (np.diff(blocks, axis=0) % BLOCKS_PER_SIDE == 0).all()
    assert np.isin(np.diff(blocks, axis=1), (0, 1)).all()


def train(world, rows, columns):
    strata, census = world
    check_training(PATH, strata[rows, columns], (rows < 80) & (columns < 80), census)


def test_a_random_sample_may_have_points_where_the_model_was_trained(world):
    for seed in range(50):
        train(world, *draw(world[0], (30, 30, 100), seed))


def test_points_from_where_the_model_was_trained_are_refused(world):
    rows, columns = draw(world[0], (10, 10, 30), 0, within(slice(0, 80), slice(0, 80)))
    more = draw(world[0], (10, 10, 30), 1)
    with pytest.raises(DataError, match=r"5\d of 100 points are in the training area, .* about \d;"):
        train(world, np.concatenate([rows, more[0]]), np.concatenate([columns, more[1]]))


def test_two_points_in_one_pixel():
    rows, columns = np.array([1, 4, 1, 4, 4]), np.array([2, 4, 3, 4, 4])
    with pytest.raises(DataError, match=r"the points 2 and 4 and 5 are in one pixel \(row 4, column 4\)"):
        check_distinct(PATH, rows, columns)
    check_distinct(PATH, rows[:3], columns[:3])


def test_a_stratum_needs_two_points_or_all_of_its_pixels(world):
    census = Census(np.arange(2), ["water", "road"], np.array([1, 90]), np.ones(2), np.ones((2, 256)), np.zeros(2), "")
    check_numbers(PATH, np.array([1, 2]), census)
    with pytest.raises(DataError, match="1 labelled point in the stratum 'road' of 90 pixels"):
        check_numbers(PATH, np.array([1, 1]), census)
    with pytest.raises(DataError, match="0 labelled points in the stratum 'water' of 1 pixels"):
        check_numbers(PATH, np.array([0, 2]), census)
