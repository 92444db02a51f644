"""The estimators, by the worked examples of the papers that they are from and by simulation."""

import numpy as np
import pytest

from mm_ovseg.accuracy.estimators import StratifiedSample, estimate_accuracy

# Olofsson et al. 2014, table 8: deforestation, forest gain, stable forest, stable non-forest; pixels of 30 m.
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
POINTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
TOTAL = PIXELS.sum() * 0.09  # hectares


def from_matrix(counts, pixels):
    mapped, reference = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return StratifiedSample(mapped, mapped, reference, np.ones(len(mapped)), pixels, pixels * 0.09)


def from_letters(strata, mapped, reference, pixels):
    index = {letter: number for number, letter in enumerate("ABCD")}
    arrays = [np.array([index[letter] for letter in letters]) for letters in (strata, mapped, reference)]
    return StratifiedSample(*arrays, np.ones(len(strata)), np.array(pixels), np.array(pixels, float))


def test_the_example_of_olofsson_2014():
    accuracy = estimate_accuracy(from_matrix(POINTS, PIXELS), 4)
    areas = [(round(area.value * TOTAL), round(area.half_width * TOTAL)) for area in accuracy.areas]
    assert areas[0] == (21_158, 6_158)
    assert areas[1] == (11_686, 3_756) and areas[2] == (285_770, 15_510) and areas[3] == (581_386, 16_282)
    assert (round(accuracy.overall.value, 2), round(accuracy.overall.half_width, 2)) == (0.95, 0.02)
    assert [round(estimate.value, 2) for estimate in accuracy.users] == [0.88, 0.73, 0.93, 0.96]
    assert [round(estimate.half_width, 2) for estimate in accuracy.users] == [0.07, 0.10, 0.04, 0.02]
    assert [round(estimate.value, 2) for estimate in accuracy.producers] == [0.75, 0.85, 0.93, 0.96]
    assert (accuracy.counts == POINTS).all()
    assert accuracy.shares[0].round(4).tolist() == [0.0176, 0, 0.0013, 0.0011]
    assert accuracy.shares.sum() == pytest.approx(1)


def test_the_example_of_stehman_2014_whose_strata_are_not_the_maps_classes():
    sample = from_letters(
        "A" * 10 + "B" * 10 + "C" * 10 + "D" * 10,
        "AAAAAAABBB" + "A" + "B" * 9 + "BB" + "CCCCCC" + "BB" + "D" * 10,
        "AAAAACBABC" + "A" + "BBBBB" + "AABB" + "CCCCCDDBBA" + "DDDDDDDCCB",
        [40_000, 30_000, 20_000, 10_000],
    )
    accuracy = estimate_accuracy(sample, 4)
    found = [accuracy.areas[0], accuracy.areas[2], accuracy.overall, accuracy.users[1], accuracy.producers[1]]
    assert [round(estimate.value, 3) for estimate in found] == [0.35, 0.20, 0.63, 0.574, 0.794]
    assert [round(estimate.standard_error, 3) for estimate in found] == [0.082, 0.064, 0.085, 0.125, 0.117]


def world(seed, size=60_000):
    """Strata, classes in a map and on the ground, and areas of pixels that differ between and within strata."""
    generator = np.random.default_rng(seed)
    strata = np.sort(generator.choice(3, size, p=[0.05, 0.3, 0.65]))
    reference = np.where(generator.random(size) < 0.8, strata, generator.integers(0, 3, size))
    mapped = np.where(generator.random(size) < 0.9, strata, reference)
    # Wrong where pixels are small, so that counting pixels would not measure the area.
    sizes = np.where(reference == strata, 1.0, 0.5) * generator.uniform(0.8, 1.2, size)
    return strata, mapped, reference, sizes


def draw(strata, mapped, reference, sizes, points, generator):
    chosen = np.concatenate(
        [generator.choice(np.flatnonzero(strata == value), count, False) for value, count in enumerate(points)]
    )
    pixels, areas = np.bincount(strata), np.bincount(strata, sizes)
    return StratifiedSample(strata[chosen], mapped[chosen], reference[chosen], sizes[chosen], pixels, areas)


def test_intervals_hold_the_truth_in_19_of_20_samples():
    strata, mapped, reference, sizes = world(0)
    total = sizes.sum()
    right = mapped == reference
    truth = [
        sizes[right].sum() / total,
        *(sizes[reference == index].sum() / total for index in range(3)),
        *(sizes[right & (mapped == index)].sum() / sizes[mapped == index].sum() for index in range(3)),
        *(sizes[right & (reference == index)].sum() / sizes[reference == index].sum() for index in range(3)),
    ]
    estimates = []
    for seed in range(400):
        sample = draw(strata, mapped, reference, sizes, (80, 120, 200), np.random.default_rng(seed))
        accuracy = estimate_accuracy(sample, 3)
        estimates.append([accuracy.overall, *accuracy.areas, *accuracy.users, *accuracy.producers])
    values = np.array([[estimate.value for estimate in row] for row in estimates])
    half_widths = np.array([[estimate.half_width for estimate in row] for row in estimates])
    held = (np.abs(values - truth) <= half_widths).mean(axis=0)
    # 95% is reached as samples grow; 400 of them tell a share to 0.011.
    assert ((held > 0.90) & (held < 0.985)).all(), held
    assert values.mean(axis=0) == pytest.approx(truth, abs=0.01)
    assert half_widths.mean(axis=0) == pytest.approx(1.96 * values.std(axis=0), rel=0.12)


def test_a_stratum_of_which_every_pixel_was_looked_at_adds_no_error():
    mapped = np.array([0, 1, 1, 1, 1])
    sample = StratifiedSample(mapped, mapped, np.array([1, 1, 1, 1, 1]), np.ones(5), np.array([1, 4]), np.array([1, 4]))
    accuracy = estimate_accuracy(sample, 2)
    assert accuracy.overall.value == pytest.approx(0.8) and accuracy.overall.standard_error == 0
    assert accuracy.areas[1].value == 1


def test_what_no_point_is_or_no_pixel_is_mapped_as_is_not_defined():
    sample = from_matrix(np.array([[3, 0, 1], [0, 2, 0], [0, 0, 0]])[:2], np.array([10, 20]))
    accuracy = estimate_accuracy(sample, 4)
    assert np.isnan(accuracy.users[2].value) and accuracy.producers[2].value == 0
    assert np.isnan(accuracy.producers[3].value) and accuracy.areas[3].value == accuracy.areas[3].standard_error == 0
