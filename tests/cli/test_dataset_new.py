import json
import shlex
import shutil

import numpy as np
import pytest
import rasterio
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.engine import load_config
from mm_ovseg.raster import read_label
from tests.conftest import ROOT, run_cli
from tests.data.check.folders import (
    SIZE,
    images,
    save,
    write_broken_folder,
    write_clean_folder,
    write_pair,
    write_palette_folder,
)


@pytest.fixture
def new(tmp_path, monkeypatch, capsys, forget_datasets):
    """A function ``(words) -> what `mm-ovseg dataset new` prints``, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        forget_datasets()
        run_cli("dataset new", *words)
        return capsys.readouterr().out

    return call


def fails(new, capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        new(*words)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_clean_folder_becomes_a_dataset(new, tmp_path):
    root = write_clean_folder(tmp_path / "my flood")
    output = new(root, "--classes", "city,road,water")
    assert output.splitlines()[-2:] == [
        "  mm-ovseg dataset check --config-file datasets/my_flood_config.yaml",
        "  mm-ovseg train --config-file datasets/my_flood_config.yaml",
    ]
    assert "errors" not in output and "warning" not in output
    assert "INPUT.SAR.SCALE db" in output and "10 m per pixel" in output and "EPSG:32633" in output
    written = sorted(path.name.removeprefix("my_flood") for path in (tmp_path / "datasets").iterdir())
    assert written == [".yaml", "_classes.json", "_config.yaml", "_preview.png", "_train.txt", "_val.txt"]
    cfg = load_config("datasets/my_flood_config.yaml", ["MODEL.DEVICE", "cpu"])
    assert cfg.INPUT.SAR.SCALE == "db" and cfg.DATASETS.TRAIN == ("my_flood_train",)
    assert [len(DatasetCatalog.get(f"my_flood_{split}")) for split in ("train", "val")] == [5, 1]
    metadata = MetadataCatalog.get("my_flood_val")
    assert metadata.stuff_classes == ["city", "road", "water"]
    assert metadata.ground_sampling_distance == 10 and metadata.label_values is None


def test_the_pairs_of_a_broken_folder_that_can_be_used_are_listed(new, tmp_path):
    mistakes = write_broken_folder(tmp_path / "mine")
    output = new("mine", "--classes", "city,road,water", "--output", "here")
    assert [mistake for mistake, (file, _) in mistakes.items() if file not in output] == []
    listed = (tmp_path / "here" / "mine_train.txt").read_text().split()
    listed += (tmp_path / "here" / "mine_val.txt").read_text().split()
    assert sorted(listed) == sorted([f"good_{number}" for number in range(8)] + ["float_label", "palette", "some_nan"])


def test_a_split_that_is_there_is_kept(new, tmp_path):
    write_clean_folder(tmp_path / "mine" / "train", count=3)
    for number in (7, 8):
        write_pair(tmp_path / "mine" / "val", f"later_{number}", number)
    output = new("mine", "--classes", "city,road,water")
    assert "Pairs to train on: 3; held out: 2 (as the folders are)" in output
    assert not (tmp_path / "datasets" / "mine_train.txt").exists()
    load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"])
    assert [sample["image_id"] for sample in DatasetCatalog.get("mine_val")] == ["later_7", "later_8"]
    write_pair(tmp_path / "mine" / "val", "without_sar", 9, sar=None)
    new("mine", "--classes", "city,road,water", "--overwrite")
    assert (tmp_path / "datasets" / "mine_val.txt").read_text().split() == ["later_7", "later_8"]
    assert not (tmp_path / "datasets" / "mine_train.txt").exists()


def test_a_val_folder_of_which_nothing_can_be_used(new, tmp_path):
    write_clean_folder(tmp_path / "mine" / "train", count=2)
    write_pair(tmp_path / "mine" / "val", "a", 7)
    (tmp_path / "mine" / "val" / "sar" / "a.tif").write_bytes(b"")
    output = new("mine", "--classes", "city,road,water")
    assert "held out: 0" in output and "a.tif is an empty file" in output
    assert list(load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"]).DATASETS.TEST) == []


def test_without_labels_the_dataset_is_for_stage_1(new, tmp_path):
    root = write_clean_folder(tmp_path / "mine", count=3)
    shutil.rmtree(root / "labels")
    assert "No labels: the dataset is for stage 1" in new("mine")
    cfg = load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"])
    assert cfg.MODEL.META_ARCHITECTURE == "CrossModalUnification" and cfg.INPUT.DATASET_MAPPER_NAME == "rgb_sar_pair"
    assert not (tmp_path / "datasets" / "mine_classes.json").exists()
    assert "sem_seg_file_name" not in DatasetCatalog.get("mine_train")[0]


def test_labels_in_colours_are_left_out_and_that_is_said(new, tmp_path):
    root = write_clean_folder(tmp_path / "mine", count=3)
    for path in (root / "labels").iterdir():
        save(path, images(0)[0])
    output = new("mine")
    assert "labels hold no class numbers and are ignored (good_0.tif has 3 bands of uint8)" in output
    assert "No labels" in output


def test_a_single_pair_is_not_split(new, tmp_path):
    write_clean_folder(tmp_path / "mine", count=1)
    assert "only one pair" in new("mine")
    content = yaml.safe_load((tmp_path / "datasets" / "mine.yaml").read_text())
    assert list(content["datasets"]) == ["mine_train"]
    assert list(load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"]).DATASETS.TEST) == []


@pytest.mark.parametrize("file, content", [
    ("classes.txt", "city\nriver, lake\n\nwater\n"),
    ("classes.json", '{"classes": ["city", "river, lake", "water"], "colors": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}'),
])  # fmt: skip
def test_names_of_a_class_file_beside_the_images(new, tmp_path, file, content):
    write_clean_folder(tmp_path / "mine")
    (tmp_path / "mine" / file).write_text(content)
    assert f"named by {file}" in new("mine")
    written = json.loads((tmp_path / "datasets" / "mine_classes.json").read_text())
    assert written["classes"] == ["city", "river, lake", "water"] and written["unseen"] == []
    assert (
        written.get("colors") == json.loads(content).get("colors") if file.endswith("json") else "colors" not in written
    )


def test_names_that_have_to_be_typed_survive_the_next_run(new, tmp_path, capsys):
    write_clean_folder(tmp_path / "mine")
    output = new("mine")
    assert "class 0, class 1, class 2 mean nothing" in output
    classes = tmp_path / "datasets" / "mine_classes.json"
    classes.write_text(classes.read_text().replace("class 2", "water"))
    message = fails(new, capsys, "mine")
    assert "exists; give --overwrite" in message and "water" in classes.read_text()
    new("mine", "--overwrite")
    assert "class 2" in classes.read_text()


def relabel(root, values, **profile):
    """Write other numbers for 0, 1 and 2 into the label files of a clean folder."""
    for path in (root / "labels").iterdir():
        with rasterio.open(path) as file:
            label, where = file.read(1), {"crs": file.crs, "transform": file.transform}
        label = np.asarray(values)[label]
        with rasterio.open(
            path, "w", driver="GTiff", width=SIZE, height=SIZE, count=1, dtype=label.dtype, **where, **profile
        ) as file:
            file.write(label, 1)
            yield path, label, file


def read_back(name):
    """What training reads of the label map of the first pair, and the class names."""
    metadata = MetadataCatalog.get(f"{name}_train")
    label = read_label(
        DatasetCatalog.get(f"{name}_train")[0]["sem_seg_file_name"],
        num_classes=len(metadata.stuff_classes),
        label_values=metadata.label_values,
    )
    return label, metadata.stuff_classes


@pytest.mark.parametrize("values, classes, table, expected", [
    ([0, 255, 255], "land,water", "0: land, 255: water", [0, 1, 1]),
    ([0, 255, 255], None, "0: land; 255: river, lake", [0, 1, 1]),
    ([10, 20, 30], "a,b,c", "10: a, 20: b, 30: c", [0, 1, 2]),
    ([0, 1, 2], "a,b", "0: ignore, 1: a, 2: b", [255, 0, 1]),
    ([7, 300, -5], "a,b", "-5: null, 300: a, 7: b", [1, 0, 255]),
])  # fmt: skip
def test_where_numbers_leave_a_choice_the_line_to_write_is_given_and_used(
    new, tmp_path, capsys, values, classes, table, expected
):
    root = write_clean_folder(tmp_path / "mine")
    list(relabel(root, np.array(values, np.int16 if min(values) < 0 or max(values) > 255 else np.uint8)))
    words = ["mine", *(["--classes", classes] if classes else [])]
    message = fails(new, capsys, *words) if -5 not in values else ""
    assert message.count("\n") <= 1 and not (tmp_path / "datasets").exists()
    assert all(f"{value} has " in message for value in values) or -5 in values
    (tmp_path / "table.yaml").write_text(table.replace("; ", "\n").replace(", ", "\n").replace("river\n", "river, "))
    for given in (table, "table.yaml"):
        assert "named by --label-values" in new(*words, "--label-values", given, "--overwrite")
        load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"])
        label, names = read_back("mine")
        raw = images(int(DatasetCatalog.get("mine_train")[0]["image_id"][-1]))[2]
        assert (label == np.array(expected)[raw]).all()
        assert names == (classes.split(",") if classes else ["land", "river, lake"])


def test_a_suggested_line_can_be_copied(new, tmp_path, capsys):
    root = write_clean_folder(tmp_path / "mine")
    list(relabel(root, np.array([10, 20, 30], np.uint8)))
    message = fails(new, capsys, "mine", "--classes", "river, lake; road; city")
    option, line = shlex.split(message[message.index("--label-values") :].split(", if that is right")[0])
    new("mine", "--classes", "river, lake; road; city", option, line)
    load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"])
    assert MetadataCatalog.get("mine_val").label_values == {10: 0, 20: 1, 30: 2}


def test_what_label_files_mask_is_no_class(new, tmp_path):
    root = write_clean_folder(tmp_path / "mine")
    for _, label, file in relabel(root, np.array([0, 1, 2], np.uint8)):
        file.write_mask(label > 0)
    output = new("mine", "--classes", "road,water")
    assert "errors" not in output and "% of the pixels have no data by nodata or mask; they are ignored" in output
    load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"])
    label, _ = read_back("mine")
    raw = images(int(DatasetCatalog.get("mine_train")[0]["image_id"][-1]))[2]
    assert (label == np.array([255, 0, 1])[raw]).all()


def test_label_maps_as_jpeg_are_warned_of_and_shift_no_class(new, tmp_path):
    root = write_clean_folder(tmp_path / "mine")
    for path in (root / "labels").iterdir():
        with rasterio.open(path) as file:
            label = file.read()
        path.unlink()
        with rasterio.open(
            path.with_suffix(".jpg"), "w", driver="JPEG", width=SIZE, height=SIZE, count=1, dtype="uint8", quality=90
        ) as file:
            file.write(label)
    output = new("mine", "--classes", "city,road,water")
    assert "[label-jpeg]" in output and "write label maps as PNG or GeoTIFF" in output
    load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"])
    label_values = MetadataCatalog.get("mine_train").label_values or {}
    assert all(index == (value if value < 3 else 255) for value, index in label_values.items())


def test_names_of_pairs_that_no_line_can_hold(new, tmp_path):
    for number, name in enumerate(["# first", "second", "third"]):
        write_pair(tmp_path / "mine", name, number)
    new("mine", "--classes", "city,road,water")
    load_config("datasets/mine_config.yaml", ["MODEL.DEVICE", "cpu"])
    keys = [sample["image_id"] for split in ("train", "val") for sample in DatasetCatalog.get(f"mine_{split}")]
    assert sorted(keys) == ["# first", "second", "third"]


def test_another_model_and_known_places(new, tmp_path):
    root = write_palette_folder(tmp_path / "mine")
    for number in range(6):
        save(root / "wide" / f"{number}.png", images(number)[0])
    model = ROOT / "configs" / "mm_ovseg_vitb16_384.yaml"
    new("mine", "--rgb", "rgb_*", "--sar", "sar_*", "--labels", "label_*", "--model", model, "--name", "other")
    cfg = load_config("datasets/other_config.yaml", ["MODEL.DEVICE", "cpu"])
    assert cfg.MODEL.CLIP.NAME == "ViT-B-16-quickgelu" and cfg.OUTPUT_DIR == "output/other"


@pytest.mark.parametrize("words, message", [
    (["nowhere"], "nowhere does not exist"),
    (["mine", "--name", "a/b"], "--name is 'a/b'"),
    (["mine", "--name", "cmu_pairs"], "comes with mm_ovseg"),
    (["mine", "--val-fraction", "1"], "--val-fraction is 1"),
    (["mine", "--output", "mine"], "--output is the folder of the images"),
    (["mine", "--output", "mine/rgb/good_0.tif"], "cannot be written to"),
    (["mine", "--classes", "city"], "1 class names (city), but the label files hold the values 0, 1, 2"),
    (["mine", "--label-values", "0: city, 1: road"], "--label-values does not have 2, but the label files hold"),
    (["mine", "--label-values", "city,road"], "city,road cannot be read"),
    (["mine", "--label-values", "0: a, yes: b"], "--label-values has the value 'yes'"),
    (["mine", "--label-values", "0: a, 1: b, 2: c", "--classes", "a,b"], "'2' stands for 'c', which is not one of"),
    (["mine", "--model", "nowhere.yaml"], "'nowhere.yaml' does not exist"),
    (["bad"], "bad has no usable pair"),
])  # fmt: skip
def test_wrong_input_is_one_sentence_and_leaves_nothing(new, tmp_path, capsys, words, message):
    write_clean_folder(tmp_path / "mine", count=2)
    write_pair(tmp_path / "bad", "a", 0, sar=np.full((1, 48, 48), np.nan, dtype=np.float32))
    error = fails(new, capsys, *words)
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "datasets").exists()
