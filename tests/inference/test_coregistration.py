from pathlib import Path

import cv2
import numpy as np
import pytest

from laptop.drawn_world import generate_scene
from mm_ovseg.inference.coregistration import ShiftEstimate, estimate_shift, window_places
from mm_ovseg.raster import read_rgb, read_sar

REAL_DATA = Path(__file__).parents[3] / "shared" / "realdata"
MARGIN = 24  # of the drawn scene, from which SAR moves in


@pytest.fixture(scope="module")
def scene():
    return draw(seed=5)


def draw(seed, size=352):
    scene = generate_scene(seed, size)
    return scene.clear_rgb, np.repeat(scene.sar[..., None], 3, axis=2).astype(np.float32)


def cut(scene, rows=0.0, columns=0.0, *, place=(0, 0, None, None)):
    """(rgb, sar, valid) of the scene without its margin, the SAR moved down and right."""
    rgb, sar = scene
    motion = np.array([[1.0, 0.0, columns], [0.0, 1.0, rows]])
    sar = cv2.warpAffine(sar, motion, sar.shape[1::-1], flags=cv2.INTER_LINEAR)
    inner = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    rgb, sar = rgb[inner], sar[inner]
    row, column, height, width = place
    part = slice(row, height and row + height), slice(column, width and column + width)
    return rgb[part], sar[part], np.ones(rgb[part].shape[:2], bool)


def quarters(scene, rows=0.0, columns=0.0):
    height, width = scene[0].shape[0] - 2 * MARGIN, scene[0].shape[1] - 2 * MARGIN
    return [cut(scene, rows, columns, place=place) for place in window_places(height, width, size=160)]


def place_of(shift):
    return shift.rows, shift.columns


@pytest.mark.parametrize("moved", [(0, 0), (3, -2), (7.5, 4), (-12, 9), (0, 20)])
def test_rows_count_down_and_columns_right_to_parts_of_a_pixel(scene, moved):
    shift = estimate_shift([cut(scene, *moved)])
    assert shift.reliable
    assert shift.windows == 1
    assert shift.spread == 0
    # Walls lean toward the radar and are not where the camera sees them, so the scene has some shift of its own.
    assert place_of(shift) == pytest.approx(moved, abs=1.5)
    own = place_of(estimate_shift([cut(scene)]))
    assert place_of(shift) == pytest.approx(np.add(own, moved), abs=0.25)


def test_moving_the_sar_back_by_the_shift_leaves_none(scene):
    shift = estimate_shift([cut(scene, 6, -9)])
    left = estimate_shift([cut(scene, 6 - shift.rows, -9 - shift.columns)])
    assert left.size < 0.3


def test_windows_that_agree_are_reliable_and_their_spread_is_small(scene):
    shift = estimate_shift(iter(quarters(scene, 5, -7)))
    assert shift.reliable
    assert shift.windows >= 3
    assert 0 < shift.spread < 1.5
    assert place_of(shift) == pytest.approx((5, -7), abs=1.5)


def test_a_window_that_disagrees_is_outvoted_and_many_make_it_unreliable(scene):
    one, two = cut(scene, 5, -7), cut(scene, -10, 12)
    agreed = estimate_shift([two, one, one])
    assert agreed.reliable
    assert agreed.windows == 3
    assert place_of(agreed) == pytest.approx((5, -7), abs=1.5)
    for pairs in ([one, two], [one, two, cut(scene, 15, 15)], [one, one, two, two]):
        split = estimate_shift(pairs)
        assert not split.reliable
        assert split.spread > 3


def test_contrast_and_brightness_of_the_sar_change_nothing(scene):
    rgb, sar, valid = cut(scene, 4, 6)
    expected = estimate_shift([(rgb, sar, valid)])
    for other in (sar * 0.2 + 30, 255 - sar, sar.astype(np.float64)):
        shift = estimate_shift([(rgb, other, valid)])
        assert shift.reliable
        assert place_of(shift) == pytest.approx(place_of(expected), abs=0.02)
    decibels = 20 * np.log10(np.maximum(sar, 1)) * 5
    assert place_of(estimate_shift([(rgb, decibels, valid)])) == pytest.approx(place_of(expected), abs=0.5)


@pytest.mark.parametrize("missing", [np.s_[:, 150:], np.s_[:120, :], np.s_[::5, ::5]])
def test_missing_data_does_not_pull_the_shift_to_zero(scene, missing):
    rgb, sar, valid = (array.copy() for array in cut(scene, 8, -11))
    valid[missing] = False
    rgb[missing], sar[missing] = 0, 0
    shift = estimate_shift([(rgb, sar, valid)])
    assert shift.reliable
    assert place_of(shift) == pytest.approx((8, -11), abs=1.5)
    sar[missing] = np.nan  # what is not valid is not looked at
    assert place_of(estimate_shift([(rgb, sar, valid)])) == pytest.approx(place_of(shift), abs=1e-3)


def test_gaps_that_both_images_share_are_no_shift_of_zero():
    rng = np.random.default_rng(0)
    rgb = rng.integers(100, 200, (256, 256, 3), dtype=np.uint8)
    sar = rng.gamma(3, 40, (256, 256, 1)).repeat(3, axis=2).astype(np.float32)
    rows, columns = np.mgrid[:256, :256]
    valid = (rows + 2 * columns > 220) & (rng.random((256, 256)) > 0.03)
    rgb[~valid], sar[~valid] = 0, 0
    assert estimate_shift([(rgb, sar, valid)]) is None


def test_pairs_that_do_not_belong_together_are_not_reliable(scene):
    other = draw(seed=6)
    rng = np.random.default_rng(0)
    blurred = cv2.GaussianBlur(rng.normal(0, 1, (352, 352)), (0, 0), 3)
    noise = np.clip(128 + 400 * blurred, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    speckle = rng.gamma(1, 60, (352, 352, 1)).repeat(3, axis=2).astype(np.float32)
    for rgb, sar in ((noise, speckle), (scene[0], speckle), (noise, scene[1]), (scene[0], other[1])):
        for pairs in ([cut((rgb, sar))], quarters((rgb, sar))):
            shift = estimate_shift(pairs)
            assert shift is None or not shift.reliable


def test_windows_that_show_nothing_give_none(scene):
    rgb, sar, valid = cut(scene)
    flat = np.full_like(rgb, 90)
    corner = np.zeros_like(valid)
    corner[:60, :60] = True
    nothing = [
        (flat, flat.astype(np.float32), valid),
        (flat, sar, valid),
        (rgb, np.full_like(sar, 33.3), valid),
        (rgb, sar, corner),
        (rgb, sar, np.zeros_like(valid)),
        (rgb[:40], sar[:40], valid[:40]),
    ]
    for pair in nothing:
        assert estimate_shift([pair]) is None
    assert estimate_shift([]) is None
    assert estimate_shift([*nothing, (rgb, sar, valid)]) == estimate_shift([(rgb, sar, valid)])


def test_shifts_beyond_the_longest_are_not_believed(scene):
    pair = cut(scene, 9, 12)
    assert estimate_shift([pair], max_shift=13) is None
    assert estimate_shift([pair], max_shift=17).size == pytest.approx(15, abs=1.5)
    assert estimate_shift([cut(scene)], max_shift=3).size < 1.5
    other = cut(scene, -2, 1)
    assert estimate_shift([pair, other], max_shift=10) == estimate_shift([other], max_shift=10)


def test_size_is_the_length():
    assert ShiftEstimate(3.0, -4.0, 0.5, 7, True).size == 5.0


@pytest.mark.parametrize(
    ("height", "width"), [(5000, 5000), (10980, 2000), (512, 9000), (1024, 1024), (700, 513), (1537, 600), (64, 3000)]
)
def test_windows_reach_the_corners_and_do_not_overlap(height, width):
    places = window_places(height, width)
    assert places == window_places(height, width)
    assert 2 <= len(places) <= 9
    covered = np.zeros((height, width), np.uint8)
    for row, column, tall, wide in places:
        assert row >= 0 and column >= 0 and row + tall <= height and column + wide <= width
        assert 0 < tall <= 512 and 0 < wide <= 512
        covered[row : row + tall, column : column + wide] += 1
    assert covered.max() == 1
    assert covered[0, 0] == covered[0, -1] == covered[-1, 0] == covered[-1, -1] == 1


def test_windows_of_large_small_and_narrow_scenes():
    assert window_places(2000, 2000) == [(row, column, 512, 512) for row in (0, 744, 1488) for column in (0, 744, 1488)]
    assert window_places(300, 200) == [(0, 0, 300, 200)]
    assert window_places(512, 512) == [(0, 0, 512, 512)]
    assert window_places(100, 6000) == [(0, round(column), 100, 512) for column in np.linspace(0, 5488, 9)]
    assert window_places(6000, 6000, count=1) == [(2744, 2744, 512, 512)]
    assert [row for row, column, *_ in window_places(20000, 1000)[::2]] == [0, 6496, 12992, 19488]
    assert len(window_places(2000, 2000, size=100, count=4)) == 4


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/realdata is not here")
def test_real_pair_follows_the_shift_that_was_added():
    folder = REAL_DATA / "terramind"
    rgb, rgb_valid = read_rgb(folder / "rgb_433D_629L_3_1.tif")
    sar, sar_valid = read_sar(folder / "sar_433D_629L_3_1.tif", scale="db")
    valid = rgb_valid & sar_valid
    before = estimate_shift([(rgb, sar, valid)])
    after = estimate_shift([(rgb[10:, 10:], sar[5:-5, 7:-3], valid[10:, 10:])])
    assert before.reliable and after.reliable
    assert before.size < 3
    assert place_of(after) == pytest.approx((before.rows + 5, before.columns + 3), abs=0.3)
