import pytest
from rasterio.crs import CRS

from mm_ovseg.data.inspection.holdout import hold_out
from mm_ovseg.data.inspection.place import Footprint

UTM = CRS.from_epsg(32633)


def split(keys, *, boxes=None, contents=None, classes=None, val_fraction=0.2):
    return hold_out(
        keys,
        footprints=boxes or [None] * len(keys),
        contents=contents or keys,
        classes=classes or [{}] * len(keys),
        val_fraction=val_fraction,
    )


def tile(column, row=0, *, crs=UTM):
    left, bottom = 500_000 + 100 * column, 4_000_000 + 100 * row
    return Footprint(crs, (left, bottom, left + 100, bottom + 100))


def test_one_side_of_the_map_is_held_out():
    keys = [f"{column}_{row}" for column in range(5) for row in range(5)]
    boxes = [tile(*map(int, key.split("_"))) for key in keys]
    # Of the four sides, the south has the same classes as the rest; the east has one that is nowhere else.
    classes = [{0: 9, 1: 1} if boxes[index].bounds[0] < 500_400 else {0: 5, 2: 5} for index in range(25)]
    found = split(keys, boxes=boxes, classes=classes)
    assert found.how == "by place on the ground"
    rows = {key[-1] for key in found.val}
    assert len(found.val) == 5 and rows in ({"0"}, {"4"})
    assert sorted([*found.train, *found.val]) == sorted(keys)


def test_tiles_that_overlap_or_show_one_image_stay_together():
    boxes = [tile(0), tile(0.5), tile(1.2), tile(5), tile(7), tile(9)]
    found = split(list("abcdef"), boxes=boxes, val_fraction=0.5)
    assert {"a", "b", "c"} in (set(found.train), set(found.val))
    found = split(list("abcdef"), contents=list("123451"), val_fraction=0.34)
    assert ("a" in found.val) == ("f" in found.val)


def test_without_georeference_neighbours_by_name_are_held_out():
    keys = [f"tile{number}" for number in range(12)]
    found = split(keys, val_fraction=0.25)
    assert found.how.startswith("by name")
    numbers = sorted(int(key[4:]) for key in found.val)
    assert numbers == list(range(numbers[0], numbers[0] + 3))  # 9, 10, 11 follow each other; "10" after "1" would not


def test_training_keeps_every_class_though_another_choice_had_more_similar_shares():
    classes = [{0: 9}, {1: 9}, {0: 9}, {0: 50, 1: 46, 2: 1}, {1: 9}]
    assert split(list("abcde"), classes=classes).val != ("d",)
    classes[0] = {0: 9, 2: 1}
    assert split(list("abcde"), classes=classes).val == ("d",)


@pytest.mark.parametrize(
    "keys, contents, why", [(["a"], ["1"], "only one pair"), (["a", "b"], ["1", "1"], "one place")]
)
def test_what_belongs_together_is_not_split(keys, contents, why):
    found = split(keys, contents=contents)
    assert found.val == () and found.train == tuple(keys) and why in found.how
    found = split(["a", "b"])
    assert len(found.val) == 1


def test_places_in_several_zones_are_compared_on_the_globe():
    boxes = [tile(0, crs=CRS.from_epsg(32631 + zone)) for zone in (2, 0, 1, 3)]
    found = split(list("bdca"), boxes=boxes)  # from west to east: d, c, b, a
    assert found.how == "by place on the ground" and found.val in (("a",), ("d",))
