from hypothesis import given
from hypothesis import strategies as st

from mm_ovseg.data.tile.settings import cut_windows


def test_windows_of_known_tiles():
    assert cut_windows(900, 900, 450, 0, spread=True) == [(r, c, 450, 450) for r in (0, 450) for c in (0, 450)]
    assert cut_windows(900, 900, 512, 0, spread=True) == [(r, c, 512, 512) for r in (0, 388) for c in (0, 388)]
    assert cut_windows(900, 300, 450, 100, spread=True) == [(r, 0, 450, 300) for r in (0, 225, 450)]
    assert cut_windows(512, 512, 512, 0, spread=True) == [(0, 0, 512, 512)]
    assert cut_windows(900, 901, 0, 0, spread=True) == [(0, 0, 900, 901)]


@given(length=st.integers(1, 400), size=st.integers(1, 200), data=st.data())
def test_windows_cover_everything_and_overlap_enough(length, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    windows = cut_windows(1, length, size, overlap, spread=True)
    assert all((row, height, width) == (0, 1, min(size, length)) for row, _, height, width in windows)
    starts = [column for _, column, _, _ in windows]
    assert starts[0] == 0 and starts[-1] + windows[-1][3] == length
    assert all(0 < after - before <= size - overlap for before, after in zip(starts, starts[1:], strict=False))
    # One fewer would not do.
    assert len(windows) == 1 or (len(windows) - 2) * (size - overlap) + size < length
