from pathlib import PurePosixPath

import pytest

from mm_ovseg.data.preparation.labelled.layout import DatasetLayout
from mm_ovseg.data.preparation.labelled.pattern import FilePattern, authors_patterns, processed_patterns
from mm_ovseg.errors import ConfigError


@pytest.mark.parametrize(("pattern", "path", "name"), [
    ("train/sar", "/a/b/train/sar/7_3.png", "7_3"),
    ("train/sar", "train/sar/7_3.tif", "7_3"),
    ("train/sar", "train/sar/deep/7_3.tif", None),
    ("train/sar", "val/sar/7_3.tif", None),
    ("train/sar", "my_train/sar/7_3.tif", None),
    ("train/sar", "sar/7_3.tif", None),
    ("DDSK/train/sar", "sources/DDSK.zip/train/sar/1.png", "1"),
    ("DDSK.tar.gz/train/sar", "sources/DDSK.tar.gz/train/sar/1.png", None),  # written as a folder, without suffix
    ("images/*_sar", "images/7_sar.tif", "7"),
    ("images/*_sar.tif", "images/7_sar.tif", "7"),
    ("images/*_sar.tif", "images/7_sar.png", None),
    ("images/sar_*", "images/opt_7.tif", None),
    ("images/sar_*", "images/sar_.tif", None),
    ("images/1.5(*)", "images/1.5(a).png", "a"),
    ("*_SAR", "anywhere/at/all/7_SAR.tif", "7"),
])  # fmt: skip
def test_names(pattern, path, name):
    assert FilePattern("sar", None, pattern).name_of(PurePosixPath(path)) == name


def test_patterns_of_a_split():
    defaults = {"rgb": "{split}/a", "sar": "{split}/b"}
    patterns = authors_patterns(defaults, {"sar": "x/{split}/b_*"}, ("training", "test"))
    assert [(pattern.kind, pattern.split, pattern.path) for pattern in patterns] == [
        ("rgb", "train", "training/a"),
        ("sar", "train", "x/training/b_*"),
        ("rgb", "val", "test/a"),
        ("sar", "val", "x/test/b_*"),
    ]
    assert authors_patterns(defaults, {"sar": "b"}, ("train", "val")) == [FilePattern("sar", None, "b")]


@pytest.mark.parametrize("path", ["", "a*/b", "a/*_*"])
def test_malformed_patterns_are_named(path):
    with pytest.raises(ConfigError, match="neither a folder nor a path with one"):
        authors_patterns({}, {"rgb": path}, ("train", "val"))


def test_the_processed_release_lies_where_the_registered_datasets_look():
    layout = DatasetLayout.of_registered("DDHR-SK", ["ddhr_sk_train", "ddhr_sk_val"])
    assert (layout.folder, layout.prefix, layout.rgb_kinds) == ("DDSK", "ddsk", ("rgb", "rgb_clouds"))
    paths = {(pattern.split, pattern.kind): pattern.path for pattern in processed_patterns(layout, layout.folder)}
    assert paths["train", "labels"] == "DDSK/train/D2masks3class"
    assert paths["val", "labels"] == "DDSK/val/D2masks"
    assert paths["val", "rgb_clouds"] == "DDSK/val/rgb_clouds"
    assert {pattern.path for pattern in processed_patterns(layout)} >= {"train/sar", "val/D2masks"}
