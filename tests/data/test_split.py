from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.data.split import hold_out, keep_apart, split_by_scene, split_into_squares
from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import Grid
from mm_ovseg.raster.footprint import footprints
from tests.raster.grids import (
    DEGREES,
    LOCAL,
    OTHER_POLAR,
    POLAR,
    RENAMED,
    WITH_HEIGHTS,
    ZONE_52,
    ZONE_53,
    corner_in,
    shared_ground,
    tiles,
)

UTM = CRS.from_epsg(32633)


def squares(grids, *, val_fraction, side, seed=0):
    places = footprints(grids)
    return split_into_squares(
        places, sides=dict.fromkeys({place.plane for place in places}, side), val_fraction=val_fraction, seed=seed
    )


def parts(grids, splits):
    """The grids that are trained on, held out, and left out."""
    return (
        [grid for grid, split in zip(grids, splits, strict=True) if split == part] for part in ("train", "val", None)
    )


def scene(crs, longitude, latitude, *, count=8, pixel=10.0):
    return tiles(crs, corner_in(crs, longitude, latitude), columns=count, rows=count, pixel=pixel)


def turned(grids):
    """The same grids, by longitudes of another turn."""
    return [replace(grid, transform=Affine.translation(-360, 0) @ grid.transform) for grid in grids]


SCENES = {
    "two zones": (scene(ZONE_52, 132, 36), scene(ZONE_53, 132, 36)),
    "two names": (scene(ZONE_52, 129, 36), scene(RENAMED, 129.0003, 36.0002)),
    "heights": (scene(ZONE_52, 129, 36), scene(WITH_HEIGHTS, 129.0003, 36)),
    "degrees": (scene(ZONE_52, 129, 62), scene(DEGREES, 129, 62, pixel=1e-4)),
    "0..360": (scene(DEGREES, 190, 62, pixel=1e-4), turned(scene(DEGREES, 190, 62, pixel=1e-4))),
    "antimeridian": (scene(CRS.from_epsg(32660), 179.995, -17), scene(CRS.from_epsg(32601), 179.995, -17)),
    "pole": (tiles(POLAR, (-640, 640), columns=8, rows=8), tiles(OTHER_POLAR, (-640, 640), columns=8, rows=8)),
}


@pytest.mark.parametrize("name", SCENES)
def test_no_training_tile_shares_ground_with_a_held_out_one(name):
    grids = [grid for part in SCENES[name] for grid in part]
    both_zones = 0
    for seed in range(3):
        splits = squares(grids, val_fraction=0.3, side=400, seed=seed)
        train, val, left_out = parts(grids, splits)
        assert train and val
        assert shared_ground(val, train) == set()
        # Of what is left out the points miss some slivers and corners.
        assert len({index for _, index in shared_ground(val, left_out)}) >= len(left_out) / 2
        both_zones += {"val"} <= set(splits[:64]) and {"val"} <= set(splits[64:])
    assert both_zones  # one and the same square, of both scenes


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    place=st.tuples(st.floats(-180, 180), st.floats(-79, 83)),
    systems=st.lists(st.sampled_from(["utm", "next", "degrees", "turned", "web"]), min_size=2, max_size=3, unique=True),
    shifts=st.lists(st.tuples(st.floats(0, 3e-3), st.floats(0, 3e-3)), min_size=3, max_size=3),
    pixels=st.lists(st.sampled_from([3.0, 7.5, 10.0]), min_size=3, max_size=3),
    side=st.floats(80, 600),
    seed=st.integers(0, 9),
)
def test_that_holds_wherever_scenes_lie(place, systems, shifts, pixels, side, seed):
    zone = int((place[0] + 180) // 6) % 60
    known = {"utm": 32601 + zone, "next": 32601 + (zone + 1) % 60, "degrees": 4326, "turned": 4326, "web": 3857}
    grids = []
    for name, shift, pixel in zip(systems, shifts, pixels, strict=False):
        crs = CRS.from_epsg(known[name])
        of_scene = scene(
            crs, place[0] + shift[0], place[1] + shift[1], count=5, pixel=pixel * (1e-5 if crs.is_geographic else 1)
        )
        grids += turned(of_scene) if name == "turned" else of_scene
    splits = squares(grids, val_fraction=0.4, side=side, seed=seed)
    train, val, _ = parts(grids, splits)
    assert shared_ground(val, train) == set()
    assert squares(grids[::-1], val_fraction=0.4, side=side, seed=seed) == splits[::-1]


@pytest.mark.parametrize("shift", [0, 3])
def test_a_second_strip_over_the_same_ground(shift):
    """On the first one's grid, or beside it."""
    first = tiles(UTM, (501_000, 5_000_000), columns=9, rows=9)
    second = tiles(UTM, (501_000 + 10 * shift, 5_000_000), columns=9, rows=9)
    train, val, left_out = parts([*first, *second], squares([*first, *second], val_fraction=0.2, side=400))
    assert train and val and shared_ground(val, train) == set()
    # On one grid, tiles of one place go together, and neighbours that touch do not overlap.
    assert (len(left_out) == 0) == (shift == 0)


def test_a_place_is_held_out_whatever_other_tiles_there_are():
    grids = tiles(UTM, (500_000, 5_000_000), columns=20, rows=20)
    splits = squares(grids, val_fraction=0.3, side=320)
    assert 0.15 < splits.count("val") / len(splits) < 0.45
    assert squares(grids[::-1], val_fraction=0.3, side=320) == splits[::-1]
    assert squares(grids[:57], val_fraction=0.3, side=320) == splits[:57]
    far_away = tiles(CRS.from_epsg(32721), (500_000, 6_000_000), columns=3)
    assert squares([*grids, *far_away], val_fraction=0.3, side=320)[:400] == splits
    assert squares(grids, val_fraction=0.3, side=320, seed=1) != splits
    # More held out: the same squares and others.
    more = squares(grids, val_fraction=0.6, side=320)
    assert all(now == "val" for before, now in zip(splits, more, strict=True) if before == "val")
    assert set(squares(grids, val_fraction=0, side=320)) == {"train"}


@pytest.mark.parametrize("latitude", [-80, -35, 0, 62, 89.9])
def test_squares_are_square_and_as_large_as_asked_for(latitude):
    """A tenth of the ground lies in squares that hold about a hundred tiles of a tenth of their side."""
    grids = tiles(POLAR, (-16_000, 16_000), columns=100, rows=100, pixel=20) if latitude > 89 else scene(
        CRS.from_epsg(32733 if latitude < 0 else 32633), 15, latitude, count=100, pixel=20
    )  # fmt: skip
    splits = np.array(squares(grids, val_fraction=0.1, side=3200)).reshape(100, 100) == "val"
    assert 0.01 < splits.mean() < 0.3
    # Tiles at the edge of what is held out, of which a square of 10 x 10 has 36 in 100.
    inner = splits[1:-1, 1:-1] & splits[:-2, 1:-1] & splits[2:, 1:-1] & splits[1:-1, :-2] & splits[1:-1, 2:]
    assert 0.5 < inner.sum() / splits[1:-1, 1:-1].sum() < 0.8


@pytest.mark.parametrize("count, val_fraction, held_out", [
    (2, 0.01, 1), (2, 0.99, 1), (2, 1, 1), (1, 0.5, 0), (3, 0, 0), (0, 0.5, 0),
])  # fmt: skip
def test_at_least_one_square_is_held_out_and_one_trained_on(count, val_fraction, held_out):
    grids = [tiles(UTM, (500_000 + 5_000 * number, 5_000_000))[0] for number in range(count)]
    assert squares(grids, val_fraction=val_fraction, side=1000).count("val") == held_out


def test_squares_of_a_plane_of_its_own():
    """Local systems and world files: where their scenes share coordinates, they share ground."""
    for crs in (LOCAL, None):
        grids = tiles(crs, (0, 0), columns=8, rows=8, pixel=1)
        shifted = tiles(crs, (5, 5), columns=8, rows=8, pixel=1)
        train, val, left_out = parts([*grids, *shifted], squares([*grids, *shifted], val_fraction=0.3, side=32))
        assert train and val and left_out
        for held_out in val:
            corner = np.array([held_out.transform.c, held_out.transform.f])
            others = np.array([[grid.transform.c, grid.transform.f] for grid in train])
            assert (np.abs(others - corner).max(axis=1) >= 16).all()


def test_tiles_without_a_place_overlap_no_other():
    plain = Grid(16, 16, None, None)
    places = footprints([plain, plain, *tiles(UTM, (500_000, 5_000_000)) * 2])
    assert keep_apart(places, [True, False, True, False]) == ["val", "train", "val", None]


def test_scenes_are_held_out_whole():
    scenes = [name for name in "abcdefghij" for _ in range(3)]
    splits = split_by_scene(scenes, val_fraction=0.2)
    assert splits.count("val") == 6
    assert len({scene for scene, split in zip(scenes, splits, strict=True) if split == "val"}) == 2
    assert split_by_scene(scenes[::-1], val_fraction=0.2) == splits[::-1]
    assert len({tuple(split_by_scene(scenes, val_fraction=0.2, seed=seed)) for seed in range(9)}) > 3


@pytest.mark.parametrize(
    ("scenes", "val_fraction", "count"), [("ab", 0.01, 1), ("ab", 0.99, 1), ("a", 0.5, 0), ("abc", 0, 0), ("", 0.5, 0)]
)
def test_at_least_one_scene_is_held_out_and_one_trained_on(scenes, val_fraction, count):
    assert split_by_scene(list(scenes), val_fraction=val_fraction).count("val") == count


def test_scenes_can_be_held_out_by_name():
    assert split_by_scene(["a", "b", "c", "b"], val_fraction=0.1, held_out=["b"]) == ["train", "val", "train", "val"]
    with pytest.raises(ConfigError, match="no scene 'd' to hold out; the scenes are a, b"):
        split_by_scene(["a", "b"], val_fraction=0.1, held_out=["d"])


def hold(keys, *, grids=None, contents=None, classes=None, val_fraction=0.2, seed=0):
    return hold_out(
        keys,
        footprints=footprints(grids or [None] * len(keys)),
        contents=contents or keys,
        classes=classes or [{}] * len(keys),
        val_fraction=val_fraction,
        seed=seed,
    )


def tile(column, row=0, *, crs=UTM):
    """100 m wide."""
    return Grid(100, 100, crs, Affine(1, 0, 500_000 + 100 * column, 0, -1, 4_000_000 + 100 * row))


def test_one_side_of_the_map_is_held_out():
    keys = [f"{column}_{row}" for column in range(5) for row in range(5)]
    places = [tuple(map(int, key.split("_"))) for key in keys]
    # Of the four sides, the south has the same classes as the rest; the east has one that is nowhere else.
    classes = [{0: 9, 1: 1} if column < 4 else {0: 5, 2: 5} for column, _ in places]
    found = hold(keys, grids=[tile(*place) for place in places], classes=classes)
    assert found.how == "by place on the ground"
    rows = {key[-1] for key in found.val}
    assert len(found.val) == 5 and rows in ({"0"}, {"4"})
    assert sorted([*found.train, *found.val]) == sorted(keys)


@pytest.mark.parametrize("crs", [None, LOCAL])
def test_world_files_and_local_systems_tell_the_sides_of_a_map_too(crs):
    keys = list("dbca")
    found = hold(keys, grids=[tile(column, crs=crs) for column in (0, 1, 2, 3)])
    assert found.how == "by place on the ground" and found.val in (("a",), ("d",))


def test_the_antimeridian_is_no_side_of_the_map():
    longitudes = [179.7, 179.8, 179.9, -180, -179.9, -179.8]
    grids = [Grid(10, 10, DEGREES, Affine(0.001, 0, west, 0, -0.001, 10)) for west in longitudes]
    found = hold(list("abcdef"), grids=grids, val_fraction=0.34)
    assert found.val in (("a", "b"), ("e", "f"))


def test_tiles_that_overlap_or_show_one_image_stay_together():
    grids = [tile(0), tile(0.5), tile(1.2), tile(5), tile(7), tile(9)]
    found = hold(list("abcdef"), grids=grids, val_fraction=0.5)
    assert {"a", "b", "c"} in (set(found.train), set(found.val))
    found = hold(list("abcdef"), contents=list("123451"), val_fraction=0.34)
    assert ("a" in found.val) == ("f" in found.val)


def test_a_tile_in_two_zones_stays_together():
    zones = UTM, CRS.from_epsg(32634)
    grids = [grid for crs in zones for grid in scene(crs, 18, 50, count=3)]
    keys = [f"{zone}{number}" for zone in "ab" for number in range(9)]
    found = hold(keys, grids=grids, val_fraction=0.3)
    assert shared_ground(*[[grids[keys.index(key)] for key in part] for part in (found.val, found.train)]) == set()


def test_slivers_in_common_are_left_out():
    """Tiles that reach less than 1% into each other are neighbours, but none is trained on beside a held-out one."""
    grids = [tile(0.994 * column) for column in range(6)]
    found = hold(list("abcdef"), grids=grids, val_fraction=0.17)
    assert len(found.val) == 1 and len(found.train) == 4
    assert found.how == "by place on the ground; 1 left out, since they overlap held-out ones"
    found = hold(list("ab"), grids=grids[:2])
    assert found.val == () and found.train == ("a", "b")


def test_without_georeference_neighbours_by_name_are_held_out():
    keys = [f"tile{number}" for number in range(12)]
    found = hold(keys, val_fraction=0.25)
    assert found.how.startswith("by name")
    numbers = sorted(int(key[4:]) for key in found.val)
    assert numbers == list(range(numbers[0], numbers[0] + 3))  # 9, 10, 11 follow each other; "10" after "1" would not
    others = {hold(keys, val_fraction=0.25, seed=seed).val for seed in range(10)}
    assert len(others) == 10 and hold(keys[::-1], val_fraction=0.25) == found


def test_training_keeps_every_class_though_another_choice_had_more_similar_shares():
    classes = [{0: 9}, {1: 9}, {0: 9}, {0: 50, 1: 46, 2: 1}, {1: 9}]
    assert hold(list("abcde"), classes=classes).val != ("d",)
    classes[0] = {0: 9, 2: 1}
    assert hold(list("abcde"), classes=classes).val == ("d",)


@pytest.mark.parametrize("val_fraction", [0.01, 0.5, 0.99])
def test_some_are_held_out_and_some_are_left(val_fraction):
    for count in (2, 3, 7):
        keys = [str(number) for number in range(count)]
        for grids in (None, [tile(number) for number in range(count)]):
            found = hold(keys, grids=grids, val_fraction=val_fraction)
            assert found.train and found.val and Counter([*found.train, *found.val]) == Counter(keys)


@pytest.mark.parametrize(
    "keys, contents, why", [(["a"], ["1"], "only one pair"), (["a", "b"], ["1", "1"], "one place")]
)
def test_what_belongs_together_is_not_split(keys, contents, why):
    found = hold(keys, contents=contents)
    assert found.val == () and found.train == tuple(keys) and why in found.how
    found = hold(["a", "b"])
    assert len(found.val) == 1


def test_places_in_several_zones_are_compared_on_the_globe():
    grids = [tile(0, crs=CRS.from_epsg(32631 + zone)) for zone in (2, 0, 1, 3)]
    found = hold(list("bdca"), grids=grids)  # from west to east: d, c, b, a
    assert found.how == "by place on the ground" and found.val in (("a",), ("d",))
