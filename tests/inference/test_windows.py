import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.windows import blend_weights, check_overlap, first_window_over, window_starts


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


@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_the_first_window_over_a_place_is_the_first_that_still_adds_to_it(length, window, data):
    starts = window_starts(length, window, data.draw(st.integers(0, window - 1)))
    place = data.draw(st.integers(0, length - 1))
    first = first_window_over(starts, window, place)
    assert starts[first] + window > place
    assert first == 0 or starts[first - 1] + window <= place


@pytest.mark.parametrize(("window", "overlap"), [(64, 0), (64, 1), (64, 21), (64, 32), (65, 64), (1, 0)])
def test_blend_weights_are_smooth_symmetric_and_never_zero(window, overlap):
    weights = blend_weights(window, overlap)
    assert weights.shape == (window,) and weights.dtype == np.float32
    assert (weights > 0).all() and weights.max() <= 1
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-6)
    if 0 < overlap <= window // 2:  # two neighbours share each pixel of the overlap and sum to 1
        np.testing.assert_allclose(weights[:overlap] + weights[window - overlap :], 1, rtol=1e-6)
        assert np.abs(np.diff(weights)).max() <= np.pi / 2 / overlap


def test_overlap_is_a_share_of_the_window():
    assert check_overlap(0.33, 384) == 127 and check_overlap(0, 5) == 0
    for overlap in (-0.1, 1.0, 0.999, float("nan")):
        with pytest.raises(ConfigError, match="share of the window"):
            check_overlap(overlap, 64)
    with pytest.raises(ConfigError, match="positive"):
        check_overlap(0.3, 0)
