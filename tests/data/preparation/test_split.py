from pathlib import Path

import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from mm_ovseg.data.preparation.split import split_by_place, split_by_scene
from mm_ovseg.raster import RasterInfo
from mm_ovseg.errors import ConfigError, DataError


def tile(left, top, size=10, crs="EPSG:32631", resolution=0.5):
    """Header of a square tile of ``size`` metres."""
    transform = from_origin(left, top, resolution, resolution)
    side = round(size / resolution)
    return RasterInfo(Path(f"{left}_{top}.tif"), side, side, 3, ("uint8",) * 3, CRS.from_string(crs), transform, None)


def overlap(first, second, size=10):
    lefts, tops = ([info.transform.c for info in (first, second)], [info.transform.f for info in (first, second)])
    return abs(lefts[0] - lefts[1]) < size and abs(tops[0] - tops[1]) < size


@pytest.mark.parametrize("shift", [0, 3])
def test_held_out_tiles_overlap_no_training_tile_of_any_strip(shift):
    """Two strips over the same ground, the second on the first one's grid or beside it."""
    first = [tile(1000 + 10 * column, 5000 + 10 * row) for row in range(12) for column in range(12)]
    second = [tile(1000 + shift + 10 * column, 5000 + 10 * row) for row in range(12) for column in range(12)]
    tiles = [*first, *second]
    splits = split_by_place(tiles, val_fraction=0.2, block=30)
    held_out = [info for info, split in zip(tiles, splits, strict=True) if split == "val"]
    trained = [info for info, split in zip(tiles, splits, strict=True) if split == "train"]
    assert held_out and trained
    assert not any(overlap(one, other) for one in held_out for other in trained)
    dropped = [info for info, split in zip(tiles, splits, strict=True) if split is None]
    assert all(any(overlap(info, other) for other in held_out) for info in dropped)
    # On one grid, tiles of one place go together, and neighbours that touch are no overlap.
    assert (len(dropped) == 0) == (shift == 0)


def test_a_place_is_held_out_whatever_other_tiles_there_are():
    tiles = [tile(10 * column, 10 * row) for row in range(20) for column in range(20)]
    splits = split_by_place(tiles, val_fraction=0.3, block=20)
    assert 0.15 < splits.count("val") / len(splits) < 0.45
    assert split_by_place(tiles[::-1], val_fraction=0.3, block=20) == splits[::-1]
    assert split_by_place(tiles[:57], val_fraction=0.3, block=20) == splits[:57]
    assert split_by_place(tiles, val_fraction=0.3, block=20, seed=1) != splits
    # More held out: the same squares and others.
    more = split_by_place(tiles, val_fraction=0.6, block=20)
    assert all(now == "val" for before, now in zip(splits, more, strict=True) if before == "val")
    assert set(split_by_place(tiles, val_fraction=0, block=20)) == {"train"}


def test_equal_coordinates_in_two_reference_systems_are_two_places():
    tiles = [tile(10 * column, 0, crs=crs) for crs in ("EPSG:32631", "EPSG:32632") for column in range(60)]
    splits = split_by_place(tiles, val_fraction=0.5, block=10)
    assert splits[:60] != splits[60:] and None not in splits


def test_a_tile_without_georeference_is_named():
    stray = RasterInfo(Path("stray.tif"), 9, 9, 3, ("uint8",) * 3, None, None, None)
    with pytest.raises(DataError, match=r"stray\.tif has no georeference"):
        split_by_place([tile(0, 0), stray], val_fraction=0.5, block=10)


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
