import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.data import register_datasets_from_file, register_rgb_sar_dataset
from mm_ovseg.errors import ConfigError, DataError, VocabularyError

CLASSES = ["city", "road", "water"]
REPOSITORY = Path(__file__).parents[2]
REAL_DATA = REPOSITORY.parent / "shared" / "realdata"


def write_pairs(write_raster, root, files):
    for file in files:
        write_raster(root / file, np.ones((4, 6), dtype=np.uint8))


def register(name="pairs", **changes):
    arguments = {"root": "mine", "rgb": "rgb", "sar": "sar", "labels": "labels", "classes": CLASSES, **changes}
    register_rgb_sar_dataset(name, **arguments)
    return name


def test_folders_are_paired_by_stem_whatever_the_suffix(datasets_root, write_raster):
    files = [
        f"{kind}/{stem}"
        for kind, suffix in (("rgb", ".jpg"), ("sar", ".tif"), ("labels", ".png"))
        for stem in (f"b{suffix}", f"a.1{suffix}")
    ]
    write_pairs(write_raster, datasets_root / "mine", files)
    (datasets_root / "mine" / "rgb" / "notes.txt").write_text("no image")
    (datasets_root / "mine" / "rgb" / "._b.jpg").write_text("macOS leaves such files")
    first, second = DatasetCatalog.get(register())
    folder = datasets_root / "mine"
    assert first == {
        "file_name": str(folder / "rgb" / "a.1.jpg"),
        "sar_file_name": str(folder / "sar" / "a.1.tif"),
        "sem_seg_file_name": str(folder / "labels" / "a.1.png"),
        "height": 4,
        "width": 6,
        "image_id": "a.1",
        "dataset_name": "pairs",
    }
    assert second["image_id"] == "b"


def test_patterns_are_paired_by_what_the_star_stands_for(datasets_root, write_raster):
    files = ["rgb_1.png", "sar_1.png", "rgb_20.png", "sar_20.png", "label_1.png", "label_20.png"]
    write_pairs(write_raster, datasets_root / "mine" / "all", files)
    name = register(rgb="all/rgb_*.png", sar="all/sar_*", labels=None)
    samples = DatasetCatalog.get(name)
    assert [sample["image_id"] for sample in samples] == ["1", "20"]
    assert samples[1]["sar_file_name"].endswith("sar_20.png")
    assert "sem_seg_file_name" not in samples[0]


def test_datasets_share_folders_and_take_the_pairs_that_they_list(datasets_root, write_raster, tmp_path):
    root = datasets_root / "mine"
    write_pairs(write_raster, root, [f"{kind}/{key}.png" for kind in ("rgb", "sar", "labels") for key in "abc"])
    write_pairs(write_raster, root, ["rgb/b.tif", "rgb/lonely.png"])  # neither is in the list
    assert [sample["image_id"] for sample in DatasetCatalog.get(register(pairs=["c", "a"]))] == ["a", "c"]
    (tmp_path / "val.txt").write_text("# held out\n c\n\n")
    declared = "root: mine, rgb: rgb, sar: sar, labels: labels, classes: [city, road]"
    (tmp_path / "mine.yaml").write_text(
        f"datasets: {{val: {{{declared}, pairs: val.txt}}, both: {{{declared}, pairs: [b]}}}}"
    )
    register_datasets_from_file(tmp_path / "mine.yaml")
    assert [sample["image_id"] for sample in DatasetCatalog.get("val")] == ["c"]
    with pytest.raises(DataError, match=r"b\.png and .*b\.tif differ only in their suffix"):
        DatasetCatalog.get("both")
    with pytest.raises(DataError, match=r"no RGB file for 1 of 2 names \(ghost\)"):
        DatasetCatalog.get(register("ghosts", pairs=["a", "ghost"]))


@pytest.mark.parametrize("pairs, words", [
    ([], "give the names of the pairs"),
    ("abc", "give the names of the pairs"),
    ([1, 2], "give the names of the pairs"),
    (["a", "b", "a"], "names the pair 'a' twice"),
])  # fmt: skip
def test_wrong_lists_of_pairs(pairs, words):
    with pytest.raises(DataError, match=words):
        register(pairs=pairs)


def test_a_list_of_pairs_that_is_not_there(tmp_path):
    (tmp_path / "mine.yaml").write_text("datasets: {mine: {root: mine, rgb: rgb, sar: sar, pairs: nowhere.txt}}")
    with pytest.raises(ConfigError, match=r"nowhere\.txt cannot be read"):
        register_datasets_from_file(tmp_path / "mine.yaml")


def test_an_absolute_root_and_a_root_looked_up_late(tmp_path, datasets_root, write_raster, monkeypatch):
    write_pairs(write_raster, tmp_path / "elsewhere" / "mine", ["rgb/a.png", "sar/a.png"])
    name = register("absolute", root=tmp_path / "elsewhere" / "mine", labels=None)
    assert len(DatasetCatalog.get(name)) == 1
    name = register("relative", labels=None)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "elsewhere"))
    assert len(DatasetCatalog.get(name)) == 1


def test_metadata():
    name = register(unseen=["Water", " road"], label_values={10: 0, 20: 1, 30: 2, 0: 255}, ground_sampling_distance=0.5)
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == CLASSES
    assert metadata.unseen_classes == ["road", "water"]
    assert metadata.ignore_label == 255
    assert metadata.evaluator_type == "rgb_sar_sem_seg"
    assert MetadataCatalog.get(register("unlabelled_pairs", labels=None)).evaluator_type == "rgb_sar_retrieval"
    assert metadata.label_values == {10: 0, 20: 1, 30: 2, 0: 255}
    assert metadata.ground_sampling_distance == 0.5
    assert len(metadata.stuff_colors) == 3 and all(len(color) == 3 for color in metadata.stuff_colors)


def test_unlabelled_pairs_need_no_classes(datasets_root, write_raster):
    write_pairs(write_raster, datasets_root / "mine", ["rgb/a.png", "sar/a.png"])
    register_rgb_sar_dataset("pairs", root="mine", rgb="rgb", sar="sar")
    (sample,) = DatasetCatalog.get("pairs")
    assert sample["image_id"] == "a" and "sem_seg_file_name" not in sample
    metadata = MetadataCatalog.get("pairs")
    assert metadata.stuff_classes == metadata.stuff_colors == metadata.unseen_classes == []
    with pytest.raises(VocabularyError, match="'pairs': The list of class names is empty"):
        register_rgb_sar_dataset("pairs", root="mine", rgb="rgb", sar="sar", labels="labels")


def test_default_colors_are_distinct():
    name = register(classes=["forest", "Forest, wood", "xyz", "tree", "abc", *(f"class {n}" for n in range(30))])
    colors = [tuple(color) for color in MetadataCatalog.get(name).stuff_colors]
    assert len(set(colors)) == 35


def test_registering_again(datasets_root):
    register()
    register()
    with pytest.raises(DataError, match="'pairs' is registered already"):
        register(classes=["city"])
    DatasetCatalog.remove("pairs")
    register(classes=["city"])
    assert MetadataCatalog.get("pairs").stuff_classes == ["city"]
    DatasetCatalog.register("foreign", list)
    with pytest.raises(DataError, match="'foreign' is registered already"):
        register("foreign")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": []}, "list of class names is empty"),
        ({"classes": "city"}, "must be a list of strings, not 'city'"),
        ({"classes": None}, "must be a list of strings, not None"),
        ({"classes": ["city", ""]}, r"A class name in \['city', ''\] is empty"),
        ({"classes": ["city", False]}, "class name False is not a string"),
        ({"classes": ["city", "Water", " water "]}, "more than once: water"),
        ({"unseen": ["forest"]}, r"unseen names forest are not.*\(city, road, water\)"),
        ({"unseen": "road"}, "must be a list of strings, not 'road'"),
        ({"unseen": [3]}, "class name 3 is not a string"),
        ({"labels": None, "classes": [], "unseen": ["road"]}, "unseen names road are not"),
        ({"labels": None, "classes": ["city", "City"]}, "more than once: City"),
        ({"colors": [[0, 0, 0]]}, "1 colors for 3 classes"),
        ({"colors": [[0, 0, 0], [1, 1, 1], [0, 0, 256]]}, r"color \[0, 0, 256\]"),
    ],
)
def test_wrong_vocabularies(changes, words):
    with pytest.raises(VocabularyError, match=words) as caught:
        register(**changes)
    assert "'pairs'" in str(caught.value)
    assert "pairs" not in DatasetCatalog


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rgb": "*/rgb_*.png"}, "rgb="),
        ({"sar": "a_*_*.png"}, "sar="),
        ({"labels": ""}, "labels="),
        ({"root": None}, "root=None"),
        ({"ignore_label": 2}, "from 3, the number of classes, to 255"),
        ({"ignore_label": 300}, "ignore_label 300"),
        ({"label_values": {1: 7}}, "label value 1: 7"),
        ({"label_values": {"1": 0}}, "label value '1': 0"),
        ({"label_values": {True: 0}}, "label value True: 0"),
        ({"label_values": {1: False}}, "label value 1: False"),
        ({"label_values": {}}, "label_values"),
        ({"ground_sampling_distance": "1 m"}, "metres per pixel"),
    ],
)
def test_wrong_declarations(changes, words):
    with pytest.raises(DataError, match=words):
        register(**changes)


def test_missing_folders_name_the_environment_variable(datasets_root, write_raster):
    write_pairs(write_raster, datasets_root / "mine", ["rgb/a.png"])
    with pytest.raises(DataError, match=r"datasets/mine/sar of dataset 'pairs' does not exist.*DETECTRON2_DATASETS"):
        DatasetCatalog.get(register())


def test_files_without_partner_are_named(datasets_root, write_raster):
    root = datasets_root / "mine"
    write_pairs(write_raster, root, ["rgb/a.png", "rgb/b.png", "sar/a.png", "sar/b.png", "labels/a.png"])
    with pytest.raises(DataError, match=r"no label file for 1 of 2 names \(b\)"):
        DatasetCatalog.get(register())
    write_pairs(write_raster, root, ["labels/b.png", *(f"rgb/x{number:02}.png" for number in range(12))])
    with pytest.raises(DataError, match=r"no SAR file for 12 of 14 names \(x00, .*, x09, \.\.\.\)"):
        DatasetCatalog.get("pairs")
    with pytest.raises(DataError, match="no RGB file for 2"):
        DatasetCatalog.get(register("other", rgb="rgb/x*", labels=None))


def test_a_dataset_without_files_and_two_files_of_one_name(datasets_root, write_raster):
    root = datasets_root / "mine"
    for kind in ("rgb", "sar", "labels"):
        (root / kind).mkdir(parents=True)
    with pytest.raises(DataError, match="'pairs' has no files"):
        DatasetCatalog.get(register())
    write_pairs(write_raster, root, ["rgb/a.png", "rgb/a.tif", "sar/a.png", "labels/a.png"])
    with pytest.raises(DataError, match=r"a\.png and .*a\.tif differ only in their suffix"):
        DatasetCatalog.get("pairs")
    assert len(DatasetCatalog.get(register("tif", rgb="rgb/*.tif"))) == 1


def test_one_damaged_header_does_not_hide_the_others(datasets_root, write_raster):
    write_pairs(write_raster, datasets_root / "mine", ["rgb/a.png", "sar/a.png", "sar/b.png"])
    (datasets_root / "mine" / "rgb" / "b.png").write_bytes(b"")
    whole, damaged = DatasetCatalog.get(register(labels=None))
    assert whole["height"] == 4 and "height" not in damaged


# ---------------------------------------------------------------- YAML files


def test_datasets_are_declared_in_yaml(tmp_path, datasets_root, write_raster):
    write_pairs(write_raster, datasets_root / "mine", ["rgb/a.png", "sar/a.png", "labels/a.png"])
    (tmp_path / "classes.json").write_text(json.dumps({"classes": CLASSES, "unseen": ["road"]}))
    declaration = tmp_path / "mine.yaml"
    declaration.write_text(
        """
defaults: {rgb: rgb, sar: sar, root: mine}
datasets:
  yaml_train: {labels: labels, classes: classes.json, label_values: {1: 2}}
  yaml_val: {classes: [city, water], unseen: [water]}
  yaml_pairs: {classes: , labels: }
"""
    )
    assert register_datasets_from_file(declaration) == ["yaml_train", "yaml_val", "yaml_pairs"]
    assert register_datasets_from_file(str(declaration)) == ["yaml_train", "yaml_val", "yaml_pairs"]
    assert MetadataCatalog.get("yaml_train").stuff_classes == CLASSES
    assert MetadataCatalog.get("yaml_train").unseen_classes == ["road"]
    assert MetadataCatalog.get("yaml_train").label_values == {1: 2}
    assert MetadataCatalog.get("yaml_val").unseen_classes == ["water"]
    assert DatasetCatalog.get("yaml_train")[0]["image_id"] == "a"
    assert MetadataCatalog.get("yaml_pairs").stuff_classes == []
    assert "sem_seg_file_name" not in DatasetCatalog.get("yaml_pairs")[0]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("datasets: {x: {root: a, rgb: b, sar: c, classes: [d], colour: e}}", ConfigError, "unknown key colour in 'x'"),
        ("dataset: {}", ConfigError, "unknown key dataset in the file; the allowed keys are datasets, defaults"),
        ("datasets: {x: {root: a, rgb: b, classes: [d]}}", ConfigError, "declares 'x' without sar"),
        ("datasets: {x: {root: a, rgb: b, sar: c, labels: d}}", ConfigError, "declares 'x' without classes"),
        ("datasets: {x: {root: a, rgb: b, sar: c, labels: d, classes: []}}", VocabularyError, "names is empty"),
        ("datasets: {x: }", ConfigError, "no arguments under 'x'"),
        ("datasets: [x]", ConfigError, "declares no dataset"),
        ("", ConfigError, "does not consist"),
        ("datasets: {", ConfigError, "is malformed"),
        ("datasets: !!python/object/apply:os.getcwd []", ConfigError, "is malformed"),
        ("datasets: {x: {root: a, rgb: b, sar: c, classes: none.json}}", ConfigError, r"none\.json cannot be read"),
        ("datasets: {x: {root: a, rgb: b, sar: c, classes: [true]}}", VocabularyError, "True is not a string"),
        ("datasets: {x: {root: a, rgb: 3, sar: c, classes: [d]}}", DataError, "rgb=3"),
    ],
)
def test_wrong_yaml_files(tmp_path, text, error, words):
    declaration = tmp_path / "mine.yaml"
    declaration.write_text(text)
    with pytest.raises(error, match=words) as caught:
        register_datasets_from_file(declaration)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_label_values_in_yaml_are_read_as_they_are_written(tmp_path):
    declaration = tmp_path / "mine.yaml"
    base = "datasets: {{x: {{root: a, rgb: b, sar: c, labels: d, classes: [e, f], label_values: {{{}}}}}}}"
    declaration.write_text(base.format("010: 0, -1: 255, 0: 1"))
    register_datasets_from_file(declaration)
    assert MetadataCatalog.get("x").label_values == {10: 0, -1: 255, 0: 1}
    for values, words in {
        "yes: 0": "label value 'yes': 0",
        "1_000: 0": "label value '1_000': 0",
        "12:30: 0": "label value '12:30': 0",
        "1.0: 0": "label value 1.0: 0",
        "1: no": "label value 1: 'no'",
        "2: 0, 2: 1": "keys '2' and '2' are the same",
        "10: 0, 010: 1": "keys '10' and '010' are the same",
    }.items():
        declaration.write_text(base.format(values))
        with pytest.raises((DataError, ConfigError), match=words):
            register_datasets_from_file(declaration)


def test_missing_yaml_file(tmp_path):
    with pytest.raises(ConfigError, match=r"mine\.yaml cannot be read \(No such file"):
        register_datasets_from_file(tmp_path / "mine.yaml")


def test_the_example_declaration_can_be_registered():
    names = register_datasets_from_file(REPOSITORY / "datasets" / "example.yaml")
    assert names and all(MetadataCatalog.get(name).stuff_classes for name in names)


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/realdata is not here")
def test_real_pairs_are_found():
    values = {0: 255, **{value: value - 1 for value in range(1, 9)}}
    name = register(
        root=REAL_DATA / "oemsar_figure",
        rgb="rgb_*.png",
        sar="sar_*.png",
        labels="label_*.png",
        classes=MetadataCatalog.get("oem_thick_val").stuff_classes,
        label_values=values,
    )
    samples = DatasetCatalog.get(name)
    assert len(samples) == 6
    assert {(sample["height"], sample["width"]) for sample in samples} == {(432, 432)}
