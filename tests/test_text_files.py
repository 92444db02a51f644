"""Every list that people write is read with a byte-order mark, and refused in another encoding than UTF-8."""

import json
from pathlib import Path

import pytest

from mm_ovseg.csv_table import read_table
from mm_ovseg.data.check.draft import _names_beside
from mm_ovseg.data.registration import read_class_file, register_datasets_from_file
from mm_ovseg.data.tile.label_values import read_legend
from mm_ovseg.engine import load_config
from mm_ovseg.errors import MMOVSegError
from mm_ovseg.evaluation.report_file import read_segmentation_report
from mm_ovseg.inference.typed_classes import read_vocabulary
from mm_ovseg.plain_data import read_text
from mm_ovseg.tables.checkpoints import _read_checkpoints
from tests.conftest import ROOT

NAMES = ["Straße", "Wälder"]
CLASSES = json.dumps({"classes": NAMES}, ensure_ascii=False)
EVALUATION = {"dataset": "d", "classes": NAMES, "unseen_classes": [], "confusion_matrix": [[1, 2], [3, 4]]}


def read_pairs(path):
    (path.parent / "sets.yaml").write_text(
        f"datasets: {{text_{path.stem}: {{root: x, rgb: rgb, sar: sar, pairs: {path.name}}}}}"
    )
    register_datasets_from_file(path.parent / "sets.yaml")
    return NAMES


def read_declared(path):
    return NAMES if register_datasets_from_file(path) == ["text_yaml"] else None


def read_config(path):
    return load_config(path, ["MODEL.DEVICE", "cpu"]).MODEL.TEXT.TEMPLATES


READERS = {
    "class file": ("a.json", CLASSES, lambda p: read_class_file(p)["classes"]),
    "--classes": ("a.json", CLASSES, lambda p: read_vocabulary(str(p), None)[0]),
    "classes.txt": ("classes.txt", "\r\n".join(NAMES), lambda p: _names_beside(p.parent)[0]),
    "list of pairs": ("a.txt", "# Wälder\r\n" + "\r\n".join(NAMES), read_pairs),
    "dataset YAML": (
        "a.yaml", "datasets: {text_yaml: {root: x, rgb: rgb, sar: sar, classes: [Straße, Wälder]}}", read_declared,
    ),
    "config": ("a.yaml", "MODEL: {TEXT: {TEMPLATES: ['Straße', 'Wälder']}}", read_config),
    "base of a config": (
        "base.yaml", "MODEL: {TEXT: {TEMPLATES: ['Straße', 'Wälder']}}",
        lambda p: p.with_name("own.yaml").write_text("_BASE_: base.yaml") and read_config(p.with_name("own.yaml")),
    ),
    "CSV": (
        "a.csv", "rgb,sar\r\nStraße,Wälder\r\n",
        lambda p: list(read_table(p, required=("rgb", "sar"), optional=())[0][1].values()),
    ),
    "list of checkpoints": (
        "a.yaml", "[{config: Straße}, {config: Wälder}]", lambda p: [entry.config for entry in _read_checkpoints(p)],
    ),
    "label map": ("a.yaml", "1: Straße\r\n2: Wälder\r\n", lambda p: read_legend(p).classes),
    "evaluation": (
        "a.json", json.dumps(EVALUATION, ensure_ascii=False), lambda p: read_segmentation_report(p).classes,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_with_and_without_a_mark(tmp_path, kind, encoding):
    name, text, read = READERS[kind]
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert list(read(tmp_path / name)) == NAMES


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_one_sentence(tmp_path, kind, encoding):
    name, text, read = READERS[kind]
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(MMOVSegError, match=rf"{name} is not UTF-8; save it as UTF-8\."):
        read(tmp_path / name)


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_file_is_one_sentence(tmp_path, kind):
    if kind in ("classes.txt", "config"):
        pytest.skip("it is looked for first")
    name, _, read = READERS[kind]
    with pytest.raises(MMOVSegError, match=rf"{name} cannot be read \(No such file or directory\)"):
        read(tmp_path / name)


def test_what_is_no_file(tmp_path):
    for path, reason in ((tmp_path, "Is a directory"), (f"{tmp_path}/a\0b", "null byte"), ("x" * 5000, "too long")):
        with pytest.raises(MMOVSegError, match=rf"cannot be read \(.*{reason}.*\)"):
            read_text(path)


def test_line_ends_and_marks_within_the_text_are_the_readers_business(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffa\r\nb\rc\nd\ufeff".encode())
    assert read_text(tmp_path / "a") == "a\nb\nc\nd\ufeff"


def test_no_file_is_read_as_text_without_saying_how():
    """Without an encoding Python takes that of the locale; in UTF-8 without the one reader a mark stays."""
    own = {  # what the program has written itself, or the system
        "mm_ovseg/data/tile/unpacking.py", "mm_ovseg/jobs.py",
        "mm_ovseg/efficiency/machine.py", "mm_ovseg/efficiency/report.py",

        "mm_ovseg/engine/checkpoint_hooks.py",
        "mm_ovseg/engine/weights_and_biases.py",
        "mm_ovseg/inference/kept_features.py", "mm_ovseg/inference/scene.py", "mm_ovseg/inference/scene_work.py",
        "mm_ovseg/products/stac/kept_product.py", "mm_ovseg/products/stac/stac_search.py",
        "mm_ovseg/raster/virtual_raster.py",  # a format that GDAL reads
        "mm_ovseg/tables/contents.py",
    }  # fmt: skip
    readers = {
        str(path.relative_to(ROOT))
        for path in Path(ROOT / "mm_ovseg").rglob("*.py")
        if ".read_text(" in path.read_text(encoding="utf-8")
    }
    assert readers <= own
