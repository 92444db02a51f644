import numpy as np
import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.raster import read_label, read_rgb, read_sar
from sentinel import mosaics
from sentinel.archive import Archive
from sentinel.classes import CLASSES, UNLABELLED
from tests.sentinel.realtrain import write_scene_archives

WATER, CITY = CLASSES.index("water"), CLASSES.index("city")


def test_cells_have_the_class_of_their_scene_and_unlabelled_seams():
    red, green = (np.zeros((112, 112, 3), np.uint8) for _ in range(2))
    red[..., 0], green[..., 1] = 150, 150
    rgb, label = mosaics.draw_mosaic([(red, CITY), (green, CLASSES.index("forest"))], np.random.default_rng(0))
    assert rgb.shape == (mosaics.SIZE, mosaics.SIZE, 3) and set(np.unique(label)) == {1, CITY, UNLABELLED}
    assert (rgb[label == CITY][:, 0] > 0).all() and not rgb[label == CITY][:, 1].any()
    assert (label == UNLABELLED).mean() < 0.1
    for shift in (1, 2):  # no two classes touch
        ahead, behind = label[shift:], label[:-shift]
        assert not ((ahead != behind) & (ahead != UNLABELLED) & (behind != UNLABELLED)).any()


def test_water_is_found_where_it_is_smooth_and_blue_or_dark():
    scene = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    scene[:56] = (20, 45, 80)
    water = mosaics.find_water(scene)
    assert water[8:48].all() and not water[60:].any()
    scene[:56] = (60, 110, 50)  # a meadow
    assert not mosaics.find_water(scene).any()
    scene[:56] = (12, 18, 16)
    assert mosaics.find_water(scene)[8:48].all()


def test_only_the_water_of_a_scene_is_labelled():
    scene = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    scene[:56, :56] = (20, 45, 80)
    rgb, label = mosaics.draw_mosaic([(scene, WATER)], np.random.default_rng(1))
    assert set(np.unique(label)) <= {WATER, UNLABELLED} and (label == WATER).mean() > 0.5
    assert rgb[label == WATER].std(axis=0).max() < 3


def test_validation_scenes_are_held_out(tmp_path):
    write_scene_archives(tmp_path)
    archives = {name: Archive(tmp_path / name) for name in ("aid.zip", "nwpu12.zip", "rsscn7.zip")}
    found = {}
    for split in ("train", "val"):
        scenes = mosaics.scenes_of(split, archives)
        assert set(scenes) == set(range(len(CLASSES)))
        found[split] = {scene for folders in scenes.values() for folder in folders for scene in folder}
    assert len(found["train"]) == 9 * len(mosaics.SOURCES) and len(found["val"]) == len(mosaics.SOURCES)
    assert not found["train"] & found["val"]


def test_mosaics_are_complete_and_repeatable(tmp_path, monkeypatch):
    monkeypatch.setattr(mosaics, "NUM_MOSAICS", {"train": 3, "val": 2})
    write_scene_archives(tmp_path)
    mosaics.write_mosaics(tmp_path, tmp_path / "mosaics")
    labels = sorted((tmp_path / "mosaics").glob("*/labels/*.tif"))
    assert len(labels) == 5
    for path in labels:
        label = read_label(path, num_classes=len(CLASSES), ignore_label=UNLABELLED)
        rgb, _ = read_rgb(path.parents[1] / "rgb" / path.name)
        sar, valid = read_sar(path.parents[1] / "sar" / path.name)
        assert rgb.shape == sar.shape == (*label.shape, 3) and not valid.any()
    before = labels[0].read_bytes()
    labels[0].unlink()
    mosaics.write_mosaics(tmp_path, tmp_path / "mosaics")
    assert labels[0].read_bytes() == before


def test_archives_without_scenes_or_water(tmp_path):
    write_scene_archives(tmp_path, per_folder=3)
    with pytest.raises(DataError, match=r"aid.zip has 3 scenes in Beach/; copy it again"):
        mosaics.write_mosaics(tmp_path, tmp_path / "mosaics")


def test_scenes_of_water_without_water(tmp_path, monkeypatch):
    write_scene_archives(tmp_path)
    monkeypatch.setattr(mosaics, "find_water", lambda scene: np.zeros(scene.shape[:2], bool))
    monkeypatch.setattr(mosaics, "MAX_TRIES", 3)
    with pytest.raises(DataError, match="3 scenes of water, the last one .* show none"):
        mosaics.write_mosaics(tmp_path, tmp_path / "mosaics")
