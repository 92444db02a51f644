"""projects/sentinel/prepare.py on small archives."""

import json
import shutil
import zipfile

import numpy as np
import pytest

import prepare
from sentinel import mosaics
from sentinel.archive import write_image


@pytest.fixture(autouse=True)
def few_mosaics(monkeypatch):
    monkeypatch.setattr(mosaics, "NUM_MOSAICS", {"train": 2, "val": 1})


def run(source, output, *words):
    prepare.main(["--source", str(source), "--output", str(output), *words])


def test_all_parts_are_written_and_kept_by_another_run(realtrain, tmp_path):
    run(realtrain, tmp_path)
    assert json.loads((tmp_path / "complete.json").read_text()) == {"parts": ["labels", "mosaics", "pairs"]}
    for part in ("pairs", "mosaics"):
        for split in ("train", "val"):
            rgb, sar, labels = (
                {path.name for path in (tmp_path / part / split / kind).iterdir()} for kind in ("rgb", "sar", "labels")
            )
            assert rgb == sar == labels and rgb, (part, split)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tif")}
    leftover = tmp_path / "pairs/train/rgb/.hills_201_00_00.123.tmp.tif"  # of a run that was killed
    leftover.touch()
    run(realtrain, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tif")} == before


def test_some_parts_are_not_called_complete(realtrain, tmp_path):
    run(realtrain, tmp_path / "output", "--parts", "mosaics")
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["mosaics"]


def test_bad_input(realtrain, tmp_path, error_of):
    def error(source, *words):
        return error_of(prepare.main, "--source", source, "--output", tmp_path / "output", *words)

    assert "sen12_pairs.zip cannot be read as a zip archive" in error(tmp_path / "missing")
    assert "has no images */rgb/*.tif; write the pairs first" in error(realtrain, "--parts", "labels")
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in error(realtrain, "--output", tmp_path / "file")
    source = shutil.copytree(realtrain, tmp_path / "source")
    with zipfile.ZipFile(source / "rsscn7.zip", "w"):
        pass
    assert "rsscn7.zip has 0 scenes in dRiverLake/" in error(source, "--parts", "mosaics")
    with zipfile.ZipFile(source / "volkov_pairs.zip", "w") as file:
        file.writestr("rgb/003.jpg", b"\xff\xd8\xff")
    assert "rgb/003.jpg in " in (message := error(source, "--parts", "pairs")) and "is damaged" in message
    assert not (tmp_path / "output/complete.json").exists()


def test_a_file_that_is_no_tile_of_the_pairs(tmp_path, error_of):
    for kind in ("rgb", "sar"):
        write_image(tmp_path / "pairs" / "train" / kind / "mine.tif", np.zeros((64, 64, 3), np.uint8))
    message = error_of(prepare.main, "--source", tmp_path, "--output", tmp_path, "--parts", "labels")
    assert "mine.tif is not a tile that prepare.py writes" in message
