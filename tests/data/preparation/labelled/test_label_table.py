import json

import numpy as np
import pytest
import rasterio

from mm_ovseg.data.preparation.labelled.label_table import (
    UnknownLabelError,
    find_label_table,
    read_label_table,
    released_label_table,
)
from mm_ovseg.data.preparation.labelled.layout import DatasetLayout
from mm_ovseg.errors import ConfigError
from tests.conftest import ROOT

CLASSES = ["city", "road"]


@pytest.fixture
def make_table(tmp_path):
    """A function ``(content, classes=CLASSES) -> table``, read from a file; ``content`` as text or for JSON."""

    def make(content, classes=CLASSES):
        path = tmp_path / "table.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_label_table(path, classes)

    return make


@pytest.fixture
def write_label(tmp_path):
    """A function ``(array (H, W) or (bands, H, W), **profile) -> path``."""

    def write(array, **profile):
        array = np.asarray(array)
        array = array[None] if array.ndim == 2 else array
        count, height, width = array.shape
        transform = rasterio.Affine(1, 0, 9, 0, -1, 9)
        profile |= {"driver": "GTiff", "dtype": array.dtype, "count": count, "transform": transform}
        with rasterio.open(tmp_path / "label.tif", "w", height=height, width=width, **profile) as file:
            file.write(array)
        return tmp_path / "label.tif"

    return write


def test_values_of_any_type(make_table, write_label):
    table = make_table({"values": {"-1": None, "7": "road", "300": "city", "12": "city"}})
    for dtype in (np.int16, np.float32):
        label = table.read(write_label(np.array([[7, 300, -1], [12, 7, 7]], dtype)))
        assert label.dtype == np.uint8 and label.tolist() == [[1, 0, 255], [0, 1, 1]]


def test_no_data_is_ignored_unless_the_table_knows_the_value(make_table, write_label):
    table = make_table({"values": {"0": "city", "1": "road"}})
    assert table.read(write_label(np.array([[0, 1, 99]], np.uint8), nodata=99)).tolist() == [[0, 1, 255]]
    assert table.read(write_label(np.array([[0, 1, 1]], np.uint8), nodata=0)).tolist() == [[0, 1, 1]]
    assert table.read(write_label(np.array([[0, 1, np.nan]], np.float32))).tolist() == [[0, 1, 255]]
    table = make_table({"values": {"1": "city", "2": "road"}})
    assert table.read(write_label(np.array([[2, 1, np.nan]], np.float32))).tolist() == [[1, 0, 255]]


def test_colours(make_table, write_label):
    table = make_table({"colors": {"255,0,0": "city", "0, 0, 1": "road", "9,9,9": None}})
    colors = np.array([[[255, 0, 9]], [[0, 0, 9]], [[0, 1, 9]]], np.uint8)
    assert table.read(write_label(colors)).tolist() == [[0, 1, 255]]
    with pytest.raises(UnknownLabelError, match=r"label colour \(0, 1, 0\), which .*\(it has \(0, 0, 1\), \(9, 9, 9\)"):
        table.read(write_label(np.array([[[255, 0]], [[0, 1]], [[0, 0]]], np.uint8)))
    with pytest.raises(UnknownLabelError, match="labels in colours"):
        table.read(write_label(np.zeros((1, 3), np.uint8)))


@pytest.mark.parametrize(("values", "message"), [
    ([[0, 1, 2, 3]], r"label\.tif has the label value 2, 3, which .*table\.json does not have \(it has 0, 1\)"),
    ([[0.0, 0.5]], "no whole numbers"),
    ([[[0]], [[1]]], r"has 2 band\(s\), but .* as numbers \(one band\)"),
])  # fmt: skip
def test_what_the_table_does_not_have_is_named(make_table, write_label, values, message):
    table = make_table({"values": {"0": "city", "1": "road"}})
    with pytest.raises(UnknownLabelError, match=message):
        table.read(write_label(np.array(values, np.float32)))


@pytest.mark.parametrize(("content", "message"), [
    ("{", "cannot be read as JSON"),
    ("[]", "needs 'values' or 'colors'"),
    ({}, "needs 'values' or 'colors'"),
    ({"values": {"0": "city", "1": "road"}, "colors": {}}, "needs 'values' or 'colors'"),
    ({"values": {"0": "city", "1": "road"}, "names": []}, "needs 'values' or 'colors'"),
    ({"values": {"0": "city", "1": "street"}}, "names 'street'; the classes are city, road"),
    ({"values": {"0": "city"}}, "has no values for road"),
    ({"values": {"0": "city", "1.5": "road"}}, "has the entry '1.5'"),
    ({"colors": {"0,0,0": "city", "0,0,256": "road"}}, "has the entry '0,0,256'"),
])  # fmt: skip
def test_malformed_tables_are_named(make_table, content, message):
    with pytest.raises(ConfigError, match=message):
        make_table(content)


def test_the_tables_of_the_documentation_can_be_read(make_table):
    text = (ROOT / "datasets" / "README.md").read_text(encoding="utf-8")
    shown = [line for line in text.splitlines() if line.startswith('{"')]
    classes = ["city", "road", "forest", "water", "farmland"]
    assert [make_table(line, classes).is_colors for line in shown] == [False, True]


@pytest.mark.parametrize(("name", "datasets", "is_assumed"), [
    ("pie", ["pie_clean_train", "pie_clean_val"], True),
    ("ddhr_sk", ["ddhr_sk_train", "ddhr_sk_val"], True),
    ("ddhr_ch", ["ddhr_ch_val"], True),
    ("openearthmap", ["oem_thin_train", "oem_thin_val"], False),
])  # fmt: skip
def test_our_tables_have_the_classes_of_the_datasets(name, datasets, is_assumed):
    layout = DatasetLayout.of_registered(name, datasets)
    table = read_label_table(find_label_table(name), layout.classes)
    assert table.assumed == is_assumed and not table.is_colors
    released = released_label_table(layout, "val")
    shift = 1 if name == "openearthmap" else 0
    assert {value + shift: index for value, index in released.codes.items() if index != 255} == {
        value: index for value, index in table.codes.items() if index != 255
    }


def test_the_released_training_masks_have_the_seen_classes_only():
    layout = DatasetLayout.of_registered("PIE", ["pie_cloud_train", "pie_cloud_val"])
    names = {
        value: layout.classes[index]
        for value, index in released_label_table(layout, "train").codes.items()
        if index < 255
    }
    assert names == {0: "background", 1: "city", 2: "forest", 3: "farmland"}
