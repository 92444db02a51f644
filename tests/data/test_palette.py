import itertools
import json

import colorspacious
import numpy as np
import pytest

from mm_ovseg.data.builtin import CLASS_FILES
from mm_ovseg.data.palette import (
    COLOR_BLIND_SAFE_COLORS,
    LAND_COVER,
    NONE_COLOR,
    color_blind_safe_colors,
    default_colors,
)
from mm_ovseg.errors import VocabularyError

# The least difference in CIELAB (CIE 1976): 2.3 is just noticed.
LEAST_DIFFERENCE = {"normal": 30, "protanomaly": 30, "deuteranomaly": 30, "tritanomaly": 20}


def least_difference(colors, vision):
    """Between any two colours 0..255, in CIELAB, as eyes without one kind of cone see them."""
    seen = np.array(colors) / 255
    if vision != "normal":
        simulation = {"name": "sRGB1+CVD", "cvd_type": vision, "severity": 100}
        seen = np.clip(colorspacious.cspace_convert(seen, simulation, "sRGB1"), 0, 1)
    lab = colorspacious.cspace_convert(seen, "sRGB1", "CIELab")
    return min(np.linalg.norm(first - second) for first, second in itertools.combinations(lab, 2))


@pytest.mark.parametrize("vision", LEAST_DIFFERENCE)
def test_color_blind_readers_can_tell_the_colors_apart(vision):
    assert least_difference(COLOR_BLIND_SAFE_COLORS, vision) > LEAST_DIFFERENCE[vision]


@pytest.mark.parametrize("vision", LEAST_DIFFERENCE)
def test_the_color_of_none_of_the_classes_differs_from_every_class(vision):
    assert min(least_difference([NONE_COLOR, color], vision) for color in COLOR_BLIND_SAFE_COLORS) > 18
    assert min(least_difference([NONE_COLOR, color], "normal") for color, _ in LAND_COVER.values()) > 12


def test_the_conventional_colors_are_not_safe():
    classes = json.loads((CLASS_FILES / "openearthmap.json").read_text())["classes"]
    assert least_difference(default_colors(classes), "protanomaly") < 2.3  # bareland and building
    assert least_difference(color_blind_safe_colors(classes), "protanomaly") > 30


def test_each_class_gets_a_color_of_its_own_near_the_conventional_one():
    classes = ["Town", "water, river", "city", "building", "tree", "forest", "Road"]
    colors = color_blind_safe_colors(classes)
    assert len(set(colors)) == len(classes) and set(colors) <= set(COLOR_BLIND_SAFE_COLORS)
    assert color_blind_safe_colors(["water"]) == [colors[1]] and np.argmax(colors[1]) == 2
    assert color_blind_safe_colors(["city"]) == [colors[2]] and np.argmax(colors[2]) == 0
    assert min(colors[6]) > 230
    assert set(color_blind_safe_colors([f"class {index}" for index in range(12)])) == set(COLOR_BLIND_SAFE_COLORS)


def test_more_classes_than_colors_are_refused():
    with pytest.raises(VocabularyError, match="13 classes.*12 colours"):
        color_blind_safe_colors([f"class {index}" for index in range(13)])
