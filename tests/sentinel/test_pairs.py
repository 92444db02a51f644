import zipfile

import numpy as np
import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.raster import read_rgb, read_sar
from sentinel import pairs
from sentinel.archive import Archive
from sentinel.pairs import SCENES, haze_of, remove_haze, sar_to_scale, write_pairs
from tests.sentinel.realtrain import write_pair_archives


def test_tiles_of_all_sets_split_by_region(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "INDIA_FIRST_HELD_OUT", 1)
    write_pair_archives(tmp_path)
    write_pairs(tmp_path, tmp_path / "pairs")
    names = {}
    for split in ("train", "val"):
        for kind in ("rgb", "sar"):
            names[split, kind] = {path.stem for path in (tmp_path / "pairs" / split / kind).iterdir()}
        assert names[split, "rgb"] == names[split, "sar"]
    train, val = names["train", "rgb"], names["val", "rgb"]
    assert {"farmland_009_00_00", "losangeles_003_01_00", "coast_151_00_00", "inland_156_00_00"} <= train
    assert {"farmland_002_00_00", "losangeles_046_00_00", "sanantonio_252_00_00", "india2_002_00_01"} <= val
    assert "india2_002_00_00" in train and not train & val
    assert not any("_007_" in name for name in train | val)  # shares ground with both parts
    rgb, _ = read_rgb(tmp_path / "pairs/train/rgb/losangeles_003_01_00.tif")
    sar, valid = read_sar(tmp_path / "pairs/train/sar/losangeles_003_01_00.tif")
    assert rgb.shape == sar.shape == (256, 256, 3) and valid.all()


def test_an_interrupted_run_continues_with_the_same_bytes(tmp_path):
    write_pair_archives(tmp_path)
    write_pairs(tmp_path, tmp_path / "pairs")
    kept, removed = (tmp_path / f"pairs/train/sar/{name}_00_00.tif" for name in ("hills_201", "dry_009"))
    before = kept.stat().st_mtime_ns, removed.read_bytes()
    removed.unlink()
    write_pairs(tmp_path, tmp_path / "pairs")
    assert (kept.stat().st_mtime_ns, removed.read_bytes()) == before


def test_no_image_is_in_two_scenes_or_both_held_out_and_left_out():
    volkov = [scene for scene in SCENES if scene.archive == "volkov_pairs.zip"]
    numbers = [number for scene in volkov for number in scene.numbers]
    assert len(numbers) == len(set(numbers))
    for scene in SCENES:
        assert not set(scene.held_out) & set(scene.left_out) and set(scene.held_out) <= set(scene.numbers)


def test_haze_is_the_dark_object_of_known_pixels():
    image = np.full((64, 64, 3), (40, 70, 100), np.uint8)
    image[:32] = 150
    image[0] = 0  # no data
    haze = haze_of([image], 0.5)
    assert haze == pytest.approx([40, 70, 100])
    clear = remove_haze(image, haze, (1.25, 1.32, 1.45))
    assert clear[-1, 0].tolist() == [9, 20, 12] and clear[5, 0].tolist() == [146, 126, 84]


def test_sar_scales():
    values = np.uint8([[0, 35, 107, 255]])
    assert sar_to_scale(values, "vv") is values
    # VH, -32..-7 dB -> 0..255: 20 log10(97) - 55 = -15.26 dB, and so on
    assert sar_to_scale(values, "amplitude", -55.0).tolist() == [[0, 51, 171, 253]]
    # Water, below -20 dB and cut there, becomes -26 dB; a single dark pixel hardly changes.
    assert (sar_to_scale(np.zeros((20, 20), np.uint8), "india") == 61).all()
    lonely = np.full((20, 20), 128, np.uint8)
    lonely[10, 10] = 0
    scaled = sar_to_scale(lonely, "india")
    assert scaled[0, 0] == 225 and scaled[10, 10] == 121


def test_bad_archives(tmp_path):
    with pytest.raises(DataError, match="missing.zip cannot be read as a zip archive"):
        Archive(tmp_path / "missing.zip")
    (tmp_path / "bad.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="bad.zip cannot be read as a zip archive"):
        Archive(tmp_path / "bad.zip")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("rgb/1.jpg", b"no image")
    with Archive(tmp_path / "a.zip") as archive:
        with pytest.raises(DataError, match="rgb/1.jpg in .*a.zip is damaged"):
            archive.read("rgb/1.jpg")
        with pytest.raises(DataError, match="no readable image rgb/2.jpg"):
            archive.read("rgb/2.jpg")


def test_an_archive_without_the_images_of_a_scene(tmp_path):
    write_pair_archives(tmp_path)
    with zipfile.ZipFile(tmp_path / "sen12_pairs.zip", "w") as file:
        file.writestr("README", "")
    with pytest.raises(DataError, match="sen12_pairs.zip has no RGB image of farmland"):
        write_pairs(tmp_path, tmp_path / "pairs")
