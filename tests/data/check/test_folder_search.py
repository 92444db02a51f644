import shutil

import numpy as np
import pytest

from mm_ovseg.data.check.folder_search import find_layout
from mm_ovseg.errors import DataError
from tests.data.check.folders import images, save, write_clean_folder, write_palette_folder, write_sentinel_folder


def patterns(root, **known):
    layout = find_layout(root, **known)
    return layout.rgb, layout.sar, layout.labels


def write(root, *names, kind="rgb", copies=3):
    """Write images of a kind under names with a number in place of #."""
    for name in names:
        for number in range(copies):
            array = dict(zip(("rgb", "sar", "labels"), images(number), strict=True))[kind]
            save(root / name.replace("#", str(number)), array)


@pytest.mark.parametrize("folders", [
    ("rgb", "sar", "labels"),
    ("Optical", "S1", "GT"),
    ("images", "SAR-Intensity", "D2masks6"),
    ("data/opt_images", "data/sar_images", "data/label_images"),
])  # fmt: skip
def test_a_folder_each(tmp_path, folders):
    write_clean_folder(tmp_path / "as_written")
    for source, target in zip(("rgb", "sar", "labels"), folders, strict=True):
        shutil.copytree(tmp_path / "as_written" / source, tmp_path / "mine" / target)
    assert patterns(tmp_path / "mine") == folders


def test_told_apart_by_the_start_or_the_end_of_the_name(tmp_path):
    assert patterns(write_palette_folder(tmp_path / "start")) == ("rgb_*", "sar_*", "label_*")
    write(tmp_path / "end", "tile-#.rgb.png")
    write(tmp_path / "end", "tile-#.SAR.tif", kind="sar")
    write(tmp_path / "end", "tile-#.mask.png", kind="labels")
    assert patterns(tmp_path / "end") == ("*.rgb", "*.SAR", "*.mask")
    write(tmp_path / "inside", "AOI_PS-RGB_tile_#.tif")
    write(tmp_path / "inside", "AOI_SAR-Intensity_tile_#.tif", kind="sar")
    # What follows the word belongs to it as far as all files have it.
    assert patterns(tmp_path / "inside") == ("AOI_PS-RGB_*", "AOI_SAR-Intensity_*", None)


PUBLISHED = {
    "Sen1Floods11": (
        ("S2Hand/Bolivia_#_S2Hand", "S1Hand/Bolivia_#_S1Hand", "LabelHand/Bolivia_#_LabelHand"),
        ("S2Hand/*_S2Hand", "S1Hand/*_S1Hand", "LabelHand/*_LabelHand"),
        ("JRCWaterHand/Bolivia_#_JRCWaterHand", "S1OtsuLabelHand/Bolivia_#_S1OtsuLabelHand"),
    ),
    "SEN12MS": (
        ("s2_1/ROIs1158_spring_s2_1_p#", "s1_1/ROIs1158_spring_s1_1_p#", "lc_1/ROIs1158_spring_lc_1_p#"),
        ("s2_1/ROIs1158_spring_s2_*", "s1_1/ROIs1158_spring_s1_*", "lc_1/ROIs1158_spring_lc_*"),
        (),
    ),
    "DFC2020": (
        ("s2_0/ROIs0000_test_s2_0_p#", "s1_0/ROIs0000_test_s1_0_p#", "dfc_0/ROIs0000_test_dfc_0_p#"),
        ("s2_0/ROIs0000_test_s2_*", "s1_0/ROIs0000_test_s1_*", "dfc_0/ROIs0000_test_dfc_*"),
        ("lc_0/ROIs0000_test_lc_0_p#",),
    ),
    "WHU-OPT-SAR": (("optical/NH49E#", "sar/NH49E#", "lbl/NH49E#"), ("optical", "sar", "lbl"), ()),
    "OpenEarthMap-SAR": (
        ("rgb_images/TrainArea_#", "sar_images/TrainArea_#", "labels/TrainArea_#"),
        ("rgb_images", "sar_images", "labels"),
        (),
    ),
    "BRIGHT": (
        ("pre-event/beirut_#_pre_disaster", "post-event/beirut_#_post_disaster", "target/beirut_#_building_damage"),
        ("pre-event/*_pre_disaster", "post-event/*_post_disaster", "target/*_building_damage"),
        (),
    ),
    "Sentinel": (("Sentinel-2/#", "Sentinel-1/#", "WorldCover/#"), ("Sentinel-2", "Sentinel-1", "WorldCover"), ()),
    "camel": (("OpticalImages/#", "SARImages/#", "FloodMasks/#"), ("OpticalImages", "SARImages", "FloodMasks"), ()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_pairs(tmp_path, name):
    files, expected, others = PUBLISHED[name]
    for file, kind in zip(files, ("rgb", "sar", "labels"), strict=True):
        write(tmp_path, f"{file}.tif", kind=kind)
    for file in others:
        write(tmp_path, f"{file}.tif", kind="labels")
    assert patterns(tmp_path) == expected


@pytest.mark.parametrize("other", [
    "lc/#.tif" , "dfc_notes/#.tif", "images_lc_#.tif", "DFC_dsm_#.tif", "S2H/#_x.tif", "handle/#_y.tif", "talc/#.tif",
    "s20/#.tif", "Class1/#_z.tif",
])  # fmt: skip
def test_words_within_other_words_win_over_no_plain_name(tmp_path, other):
    write_clean_folder(tmp_path)
    write(tmp_path, other, kind="sar")
    assert patterns(tmp_path) == ("rgb", "sar", "labels")


@pytest.mark.parametrize("other", ["talc/good_#.tif", "sdfc/good_#.tif", "DFC_dsm/DFC_dsm_#.tif", "handmade/#.tif"])
def test_words_within_other_words_are_no_labels(tmp_path, other):
    write_clean_folder(tmp_path, count=3)
    shutil.rmtree(tmp_path / "labels")
    write(tmp_path, other, kind="sar")
    assert patterns(tmp_path) == ("rgb", "sar", None)


def test_names_of_two_places_are_not_paired_by_their_numbers(tmp_path):
    write(tmp_path, "rgb/paris_#.png")
    write(tmp_path, "sar/tokyo_#.tif", kind="sar")
    with pytest.raises(DataError, match="share a name"):
        find_layout(tmp_path)


def test_files_that_are_used_for_nothing_are_named(tmp_path):
    layout = find_layout(write_sentinel_folder(tmp_path))
    assert (layout.rgb, layout.sar, layout.labels) == ("rgb_*", "sar_*", "label_*")
    assert layout.unused == ("s2l2a_site1.tif", "s2l2a_site2.tif")


def test_of_two_rgb_folders_the_plain_one_is_taken_unless_another_is_named(tmp_path):
    write_clean_folder(tmp_path)
    shutil.copytree(tmp_path / "rgb", tmp_path / "rgb_clouds")
    assert find_layout(tmp_path).unused == ("rgb_clouds/",)
    assert patterns(tmp_path, rgb="rgb_clouds") == ("rgb_clouds", "sar", "labels")


def test_no_labels(tmp_path):
    write_clean_folder(tmp_path)
    shutil.rmtree(tmp_path / "labels")
    assert patterns(tmp_path) == ("rgb", "sar", None)


def test_what_names_do_not_say_the_contents_say(tmp_path):
    write(tmp_path / "folders", "one/#.png")
    write(tmp_path / "folders", "two/#.tif", kind="sar")
    write(tmp_path / "folders", "three/#.png", kind="labels")
    assert patterns(tmp_path / "folders") == ("one", "two", "three")
    write(tmp_path / "suffixes", "#.jpg")
    write(tmp_path / "suffixes", "#.tif", kind="sar")
    write(tmp_path / "suffixes", "#.png", kind="labels")
    assert patterns(tmp_path / "suffixes") == ("*.jpg", "*.tif", "*.png")


def test_folders_without_pairs(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        find_layout(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"share a name \(no image\)"):
        find_layout(tmp_path)
    save(tmp_path / "rgb" / "a.png", images(0)[0])
    save(tmp_path / "sar" / "b.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"share a name \(rgb/ \(1 images\), sar/ \(1 images\)\); .*--rgb, --sar"):
        find_layout(tmp_path)
    with pytest.raises(DataError, match=r"optical does not exist; correct --rgb"):
        find_layout(tmp_path, rgb="optical")
