import itertools

import colorspacious
import numpy as np
import pytest

from mm_ovseg.data.builtin import CLASS_FILES
from mm_ovseg.data.palette import NONE_COLOR, default_colors
from mm_ovseg.data.registration import read_class_file

SHOWN_TOGETHER = {
    **{name: read_class_file(CLASS_FILES / f"{name}.json")["classes"] for name in ("ddhr", "pie", "openearthmap")},
    "global map": ["water", "trees", "flooded vegetation", "crops", "built", "bare", "snow", "rangeland"],
    "Sentinel": ["water", "forest", "farmland", "city", "industrial area", "grassland", "bare ground"],
    "every kind": [
        *("road", "beach", "tree cover", "lake", "snow and ice", "wetland", "shrubland", "residential area", "meadow"),
        *("background", "built-up area", "cropland"),
    ],
}  # fmt: skip
VISIONS = ("normal", "protanomaly", "deuteranomaly", "tritanomaly")
PAPER, CLOUD, LIGHT_CLOUD, DARK = (255, 225), 255, 225, 20
OPACITY = 0.6  # of the map on the page


def min_difference(colors, others, vision):
    """Between any two colours 0..255, and to the others, in CIELAB (CIE 1976), as eyes without one kind of cone see."""
    seen = np.array([*colors, *others]) / 255
    if vision != "normal":
        simulation = {"name": "sRGB1+CVD", "cvd_type": vision, "severity": 100}
        seen = np.clip(colorspacious.cspace_convert(seen, simulation, "sRGB1"), 0, 1)
    lab = colorspacious.cspace_convert(seen, "sRGB1", "CIELab")
    return min(
        np.linalg.norm(lab[first] - lab[second])
        for first, second in itertools.combinations(range(len(lab)), 2)
        if first < len(colors)
    )


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("classes", SHOWN_TOGETHER.values(), ids=SHOWN_TOGETHER)
def test_all_readers_can_tell_the_classes_apart_on_paper_cloud_and_dark_ground(classes, vision):
    """2.3 is just noticed. What is under the map counts too: a class must not look like an image without a map."""
    colors, none = np.array(default_colors(classes)), np.array([NONE_COLOR])
    assert min_difference(colors, [*none, *([white] * 3 for white in PAPER)], vision) > 20
    for image in (CLOUD, LIGHT_CLOUD, DARK):
        blended, none_blended = (OPACITY * shown + (1 - OPACITY) * image for shown in (colors, none))
        assert min_difference(blended, [*none_blended, [image] * 3], vision) > 12


def test_each_class_has_a_color_of_its_own():
    classes = ["Xyz", "water, river", "city", "building", "tree", "forest", "Road"]
    colors = default_colors(classes)
    assert len(set(colors)) == len(classes)
    assert np.argmax(colors[1]) == 2 and np.argmax(colors[2]) == 0 and np.argmax(colors[4]) == 1
    for name in ("water", "city", "tree", "road"):  # whatever else is shown
        assert default_colors([name]) == [colors[[name.split(",")[0].casefold() for name in classes].index(name)]]


def test_names_of_one_kind_share_a_color_except_in_one_picture():
    assert default_colors(["Beach"]) == default_colors([" bare ground, soil"]) == default_colors(["bareland"])
    assert len(set(default_colors(["beach", "bare ground", "bareland"]))) == 3


def test_unknown_names_get_safe_colors_as_long_as_there_are_any():
    every_kind = SHOWN_TOGETHER["every kind"]
    unknown = default_colors([f"class {index}" for index in range(30)])
    assert set(unknown[: len(every_kind)]) == set(default_colors(every_kind)) and len(set(unknown)) == 30
    assert NONE_COLOR not in unknown
