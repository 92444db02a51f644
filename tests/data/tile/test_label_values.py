import json
import pickle
from datetime import date

import numpy as np
import pytest

from mm_ovseg.data.tile.label_values import IGNORED, Legend, parse_legend, read_legend
from mm_ovseg.errors import DataError, VocabularyError


@pytest.fixture
def read(tmp_path):
    """A function ``(content of a file) -> legend``."""

    def call(content, classes=None, encoding="utf-8"):
        path = tmp_path / "meanings.yaml"
        path.write_text(content, encoding=encoding)
        return read_legend(path, classes)

    return call


@pytest.mark.parametrize(
    "value",
    [
        "yes",
        "no",
        "on",
        "Off",
        "true",
        "010",
        "1.10",
        "2.0",
        "2020-01-01",
        "12:30",
        "1_000",
        "0x1F",
        "1e3",
        ".5",
        "<<",
        "=",
    ],
)
def test_values_are_read_as_they_are_written(read, value):
    assert read(f"{value}: city\nother: road\n").entries == ((value, 0), ("other", 1))
    assert read(json.dumps({value: "city"})).entries == ((value, 0),)
    assert read(f"x: {'city'}\n{value}: no\n").classes == ("city", "no")


def test_names_comments_quotes_and_no_label(read):
    content = "# what the survey wrote\nyes: city  # built\n'no': 'null'\n'a: b': \"river, lake\"\n"
    legend = read(content + "1: null\n2: ~\n3:\n4: ignore\n~: city\n")
    assert legend.classes == ("city", "null", "river, lake")
    none = dict.fromkeys("1234", IGNORED)
    assert legend.table == {"yes": 0, "no": 1, "a: b": 2, **none, "": 0}
    assert read("a: b\n", encoding="utf-8-sig").table == {"a": 0}
    assert read('{"1":\t"city",\n\t"2": null}').table == {"1": 0, "2": IGNORED}


@pytest.mark.parametrize("content, message", [
    ("a: city\nb: road\na: water\n", "has the key 'a' twice"),
    ('{"a": "city", "a": "road"}', "has the key 'a' twice"),
    ("a: city\n' a ': road\n", "has the key 'a' twice"),
    ("a: [city]\n", "a single text belongs there"),
    ("a: !!python/name:os.system x\n", "a single text belongs there"),
    ("a: 3\n", "stands for the number 3"),
    ("- a\n", "no 'key: text' lines"),
    ("", "no 'key: text' lines"),
    ("{}", "it is empty"),
    ("a: b: c\n", "mapping values are not allowed"),
])  # fmt: skip
def test_what_is_no_table(read, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(content)
    assert "meanings.yaml cannot be read" in str(caught.value) and "\n" not in str(caught.value)


def test_classes_that_are_known(read):
    assert read("x: Water\n", ["road", "water"]).entries == (("x", 1),)
    with pytest.raises(DataError, match="'x' stands for 'lake', which is not one of the classes road, water"):
        read("x: lake\n", ["road", "water"])
    with pytest.raises(VocabularyError, match="more than once"):
        read("x: lake\ny: Lake\n")


def test_numbers_of_a_raster(read):
    legend = read("010: city\n2.0: road\n-1: null\n+7: city\n255: road\n")
    assert legend.raster_table == {10: 0, 2: 1, -1: IGNORED, 7: 0, 255: 1}
    assert pickle.loads(pickle.dumps(legend)).raster_table == legend.raster_table
    for value in ("yes", "1.5", "1_000", "0x10", "12:30", "1e2", "''"):
        with pytest.raises(
            DataError, match=r"meanings.yaml has the value '.*'; the values of a label raster are integers"
        ):
            _ = read(f"1: city\n{value}: road\n").raster_table
    with pytest.raises(DataError, match="has the value 10 twice"):
        _ = read("010: city\n10: road\n").raster_table


def test_values_of_an_attribute(read):
    legend = read("3: city\n010: road\n1.10: water\nyes: forest\ntrue: field\n2020-01-01: sea\n~: sand\n")
    names = [*legend.classes, *[None] * (IGNORED - len(legend.classes)), "ignored"]

    def name(value):
        index = legend.index_of(value)
        return None if index is None else names[index]

    texts = {"3": "city", "010": "road", "10": None, "1.10": "water", "1.1": None, " yes ": "forest", "Yes": None}
    assert {text: name(text) for text in texts} == texts
    numbers = [3, 3.0, np.int16(3), np.float32(3), 10, 10.0, 1.1, 4, 0.5, float("nan")]
    assert [name(number) for number in numbers] == [*["city"] * 4, *["road"] * 2, "water", None, None, "sand"]
    assert [name(value) for value in (True, False, None, date(2020, 1, 1))] == ["field", None, "sand", "sea"]


def test_values_that_are_one_number_and_several_classes():
    legend = Legend(("a", "b"), (("1.10", 0), ("1.1", 1), ("2", 0), ("2.0", 0)), "here")
    assert legend.index_of("1.10") == 0 and legend.index_of("1.1") == 1 and legend.index_of(2) == 0
    with pytest.raises(DataError, match=r"here gives 1\.10 and 1\.1, which are the same number, for different classes"):
        legend.index_of(1.1)


def test_a_table_as_it_is_typed():
    legend = parse_legend(" 0: land, 255:water ,-1: ignore, 7: null,", source="--label-values")
    assert legend.classes == ("land", "water")
    assert legend.raster_table == {0: 0, 255: 1, -1: IGNORED, 7: IGNORED}
    assert parse_legend("1: river, lake; 2: road", source="x").classes == ("river, lake", "road")
    for text, message in (("land, water", "write 'value: class name'"), ("", "write"), ("1: a, 1: b", "twice")):
        with pytest.raises(DataError, match=message):
            parse_legend(text, source="--label-values")
