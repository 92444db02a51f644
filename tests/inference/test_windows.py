import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mm_ovseg.inference.windows import RowBlender, blend_weights
from mm_ovseg.modeling.windows import window_starts

WINDOW, OVERLAP, CLASSES = 16, 6, 3


@given(st.integers(1, 500), st.integers(1, 80), st.data())
def test_windows_cover_a_side_to_its_last_pixel_and_overlap(length, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    starts = window_starts(length, window, overlap)
    covered = np.zeros(max(length, window), int)
    for start in starts:
        covered[start : start + window] += 1
    assert covered.min() == 1 or overlap > 0
    assert (covered > 0).all()
    assert starts == sorted(set(starts)) and starts[-1] == max(0, length - window)
    assert all(start + window - following >= overlap for start, following in zip(starts, starts[1:], strict=False))


def test_the_lattice_does_not_depend_on_the_length():
    assert window_starts(1000, 64, 20)[:-1] == window_starts(2000, 64, 20)[: len(window_starts(1000, 64, 20)) - 1]


@pytest.mark.parametrize(("window", "overlap"), [(64, 0), (64, 1), (64, 21), (64, 32), (65, 64), (1, 0)])
def test_blend_weights_are_smooth_symmetric_and_never_zero(window, overlap):
    weights = blend_weights(window, overlap)
    assert weights.shape == (window,) and weights.dtype == np.float32
    assert (weights > 0).all() and weights.max() <= 1
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-6)
    if 0 < overlap <= window // 2:  # two neighbours share each pixel of the overlap and sum to 1
        np.testing.assert_allclose(weights[:overlap] + weights[window - overlap :], 1, rtol=1e-6)
        assert np.abs(np.diff(weights)).max() <= np.pi / 2 / overlap


def blend(scores, height, width, *, first=0):
    """Blend ``scores(row, column) -> (T, WINDOW, WINDOW)`` over a scene; rows from the first row of windows on."""
    rows, columns = (window_starts(length, WINDOW, OVERLAP) for length in (height, width))
    blender = RowBlender(num_classes=CLASSES, width=width, window=WINDOW, overlap=OVERLAP, start=rows[first])
    strips = []
    for index in range(first, len(rows)):
        for column in columns:
            blender.add(column, scores(rows[index], column))
        strips.append(blender.close(rows[index + 1] if index + 1 < len(rows) else height))
    ends = [*rows[first + 1 :], height]
    assert [strip.shape[1] for strip in strips] == [end - start for start, end in zip(rows[first:], ends, strict=True)]
    return torch.cat(strips, dim=1)


def random_scores(row, column):
    return torch.rand(CLASSES, WINDOW, WINDOW, generator=torch.Generator().manual_seed(1000 * row + column))


def test_strips_are_the_weighted_mean_of_all_windows():
    height, width = 53, 41
    sums, totals = np.zeros((CLASSES, height, width)), np.zeros((height, width))
    weights = np.outer(blend_weights(WINDOW, OVERLAP), blend_weights(WINDOW, OVERLAP))
    for row in window_starts(height, WINDOW, OVERLAP):
        for column in window_starts(width, WINDOW, OVERLAP):
            place = (..., slice(row, row + WINDOW), slice(column, column + WINDOW))
            sums[place] += weights * random_scores(row, column).numpy()
            totals[place] += weights
    np.testing.assert_allclose(blend(random_scores, height, width), sums / totals, atol=1e-6)


def test_windows_that_agree_leave_no_seam():
    world = torch.rand(CLASSES, 53, 41, generator=torch.Generator().manual_seed(0))
    blended = blend(lambda row, column: world[:, row : row + WINDOW, column : column + WINDOW], 53, 41)
    torch.testing.assert_close(blended, world, atol=1e-6, rtol=0)


def test_a_window_that_disagrees_fades_out_towards_its_borders():
    rows = window_starts(26, WINDOW, OVERLAP)  # 0 and 10
    blended = blend(lambda row, column: torch.full((CLASSES, WINDOW, WINDOW), float(row == rows[1])), 26, WINDOW)
    profile = blended[0, :, 0]
    assert (profile[:10] == 0).all() and (profile[16:] == 1).all()
    steps = profile.diff()
    assert (steps >= 0).all() and steps.max() < 0.3


def test_a_scene_smaller_than_a_window():
    blended = blend(random_scores, 9, 11)
    torch.testing.assert_close(blended, random_scores(0, 0)[:, :9, :11], atol=1e-6, rtol=0)


def test_going_on_from_any_row_gives_the_same_bits():
    height, width = 67, 30
    whole, rows = blend(random_scores, height, width), window_starts(height, WINDOW, OVERLAP)
    for done in rows:
        first = next(index for index, row in enumerate(rows) if row + WINDOW > done)
        rest = blend(random_scores, height, width, first=first)
        assert torch.equal(rest[:, done - rows[first] :], whole[:, done:])


def test_places_without_a_window_have_score_0():
    blender = RowBlender(num_classes=CLASSES, width=40, window=WINDOW, overlap=OVERLAP)
    blender.add(0, torch.ones(CLASSES, WINDOW, WINDOW))
    scores = blender.close(WINDOW)
    assert (scores[:, :, :WINDOW] == 1).all() and (scores[:, :, WINDOW:] == 0).all()
