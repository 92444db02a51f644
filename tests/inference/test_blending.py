import numpy as np
import torch

from mm_ovseg.inference.blending import RowBlender
from mm_ovseg.inference.windows import blend_weights, first_window_over, window_starts

WINDOW, OVERLAP, CLASSES = 16, 6, 3


def blend(scores, height, width, *, first=0):
    """Blend ``scores(row, column) -> (T, WINDOW, WINDOW)`` over a scene; rows from the first row of windows on."""
    rows, columns = (window_starts(length, WINDOW, OVERLAP) for length in (height, width))
    blender = RowBlender(num_classes=CLASSES, width=width, window=WINDOW, overlap=OVERLAP, start=rows[first])
    strips = []
    for index in range(first, len(rows)):
        for column in columns:
            blender.add(column, scores(rows[index], column))
        strips.append(blender.close(rows[index + 1] if index + 1 < len(rows) else height))
    assert [strip.start for strip in strips] == rows[first:]
    return torch.cat([strip.scores for strip in strips], dim=1)


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
        first = first_window_over(rows, WINDOW, done)
        rest = blend(random_scores, height, width, first=first)
        assert torch.equal(rest[:, done - rows[first] :], whole[:, done:])


def test_places_without_a_window_have_score_0():
    blender = RowBlender(num_classes=CLASSES, width=40, window=WINDOW, overlap=OVERLAP)
    blender.add(0, torch.ones(CLASSES, WINDOW, WINDOW))
    scores = blender.close(WINDOW).scores
    assert (scores[:, :, :WINDOW] == 1).all() and (scores[:, :, WINDOW:] == 0).all()
