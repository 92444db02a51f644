"""Default colours of land-cover classes, for pictures and class maps."""

import colorsys
import itertools
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np

from mm_ovseg.decision import NONE_CLASS, NONE_NAME
from mm_ovseg.errors import VocabularyError

__all__ = [
    "COLOR_BLIND_SAFE_COLORS",
    "NONE_COLOR",
    "LegendEntry",
    "class_colors",
    "class_legend",
    "color_blind_safe_colors",
    "default_colors",
]

RGBColor = tuple[int, int, int]

# All distinguishable without red, green or blue cones: found by a search near the conventional colours
# for the largest minimum difference in CIELAB under the simulation of Machado et al. 2009.
COLOR_BLIND_SAFE_COLORS: tuple[RGBColor, ...] = (
    (43, 119, 212),
    (11, 60, 52),
    (255, 234, 15),
    (165, 63, 30),
    (240, 246, 243),
    (168, 255, 150),
    (209, 148, 27),
    (181, 157, 135),
    (61, 23, 100),
    (115, 197, 253),
    (118, 117, 147),
    (72, 1, 199),
)

# Of "none": the grey that differs most from all colours above, to all eyes.
NONE_COLOR: RGBColor = (190, 190, 190)

# Conventional colour, and index of the nearest one of the colours above.
LAND_COVER: dict[str, tuple[RGBColor, int]] = {
    "agriculture land": ((203, 231, 105), 2),
    "agricultureland": ((203, 231, 105), 2),
    "backbroad": ((90, 90, 90), 8),
    "background": ((90, 90, 90), 8),
    "bareland": ((150, 75, 0), 6),
    "building": ((222, 31, 7), 3),
    "city": ((214, 73, 51), 3),
    "crops": ((240, 200, 80), 2),
    "developed space": ((180, 160, 170), 7),
    "developedspace": ((180, 160, 170), 7),
    "farmland": ((240, 200, 80), 2),
    "flooded vegetation": ((60, 150, 150), 10),
    "forest": ((34, 120, 50), 1),
    "rangeland": ((140, 210, 90), 5),
    "road": ((250, 250, 250), 4),
    "snow": ((225, 240, 250), 9),
    "tree": ((34, 97, 38), 1),
    "trees": ((34, 97, 38), 1),
    "water": ((0, 105, 200), 0),
}

GOLDEN_RATIO = 0.618034


def default_colors(classes: Sequence[str]) -> list[RGBColor]:
    """One colour per class: a conventional one for known land cover, otherwise one that no other class has.

    Args:
        classes: Class names, case-insensitive. Only the first of several synonyms ("water, river") counts.

    Returns:
        One (red, green, blue) tuple per class, 0..255. The same names in the same order give the same colours.
    """
    known = [None if (entry := _land_cover(name)) is None else entry[0] for name in classes]
    fallback = (color for color in map(_fallback_color, itertools.count()) if color not in known)
    colors: list[RGBColor] = []
    for color in known:  # two names with one conventional colour must differ in a picture
        colors.append(next(fallback) if color is None or color in colors else color)
    return colors


def color_blind_safe_colors(classes: Sequence[str]) -> list[RGBColor]:
    """One colour per class, distinguishable for colour-blind readers.

    Args:
        classes: Class names, at most 12, as in :func:`default_colors`.

    Returns:
        One (red, green, blue) tuple per class, 0..255, from :data:`COLOR_BLIND_SAFE_COLORS`: near the conventional
        colour for known land cover.

    Raises:
        VocabularyError: There are more classes than such colours.
    """
    if len(classes) > len(COLOR_BLIND_SAFE_COLORS):
        raise VocabularyError(
            f"There are {len(classes)} classes; the palette for colour-blind readers has "
            f"{len(COLOR_BLIND_SAFE_COLORS)} colours that they can distinguish: show fewer classes, or use the "
            "conventional palette."
        )
    chosen: list[int | None] = []
    for name in classes:
        index = None if (entry := _land_cover(name)) is None else entry[1]
        chosen.append(None if index in chosen else index)
    free = (index for index in range(len(COLOR_BLIND_SAFE_COLORS)) if index not in chosen)
    return [COLOR_BLIND_SAFE_COLORS[next(free) if index is None else index] for index in chosen]


def class_colors(classes: Sequence[str], colors: Sequence[Sequence[int]] | None, *, owner: str) -> tuple[RGBColor, ...]:
    """The colours given for classes, checked, or the default ones if none are given.

    Args:
        classes: Class names.
        colors: [red, green, blue] of each, 0..255; None for the default ones.
        owner: Where they were given, for messages.

    Raises:
        VocabularyError: The numbers of colours and classes differ, or a value is not a colour.
    """
    if colors is None:
        return tuple(default_colors(classes))
    count = len(colors) if isinstance(colors, Sequence | np.ndarray) else repr(colors)
    if count != len(classes):
        raise VocabularyError(
            f"{owner} has {count} colors for {len(classes)} classes; give one [red, green, blue] for each, or none."
        )
    for color in colors:
        is_color = isinstance(color, Sequence | np.ndarray) and len(color) == 3
        if not is_color or not all(isinstance(part, Integral) and 0 <= part <= 255 for part in color):
            raise VocabularyError(f"{owner} has the color {color!r}; write [red, green, blue], each 0..255.")
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colors)


class LegendEntry(NamedTuple):
    """One class of a legend.

    Attributes:
        name: Class name.
        color: (red, green, blue), 0..255; None for ignored pixels, which pictures show striped.
        unseen: Whether training saw no labels of it; such names are underlined.
        value: Of its pixels in a class map.
    """

    name: str
    color: RGBColor | None
    unseen: bool
    value: int


def class_legend(
    classes: Sequence[str],
    colors: Sequence[Sequence[int]] | None = None,
    unseen: Sequence[str] = (),
    *,
    has_none: bool = False,
    owner: str = "The legend",
) -> tuple[LegendEntry, ...]:
    """The entries of every legend and colour table: of figures, the web page, reports, maps and QGIS styles.

    Args:
        classes, colors, owner: See :func:`class_colors`.
        unseen: Those of ``classes`` whose labels training did not see.
        has_none: Whether pixels may be none of the classes; "none" is then the last entry.

    Raises:
        VocabularyError: See :func:`class_colors`.
    """
    named = zip(classes, class_colors(classes, colors, owner=owner), strict=True)
    entries = [LegendEntry(name, color, name in unseen, value) for value, (name, color) in enumerate(named)]
    if has_none:
        entries.append(LegendEntry(NONE_NAME, NONE_COLOR, unseen=False, value=NONE_CLASS))
    return tuple(entries)


def _land_cover(name: str) -> tuple[RGBColor, int] | None:
    return LAND_COVER.get(name.split(",")[0].strip().casefold())


def _fallback_color(index: int) -> RGBColor:
    """A colour from an endless series of distinct ones: hues a golden ratio apart, in three brightnesses."""
    red, green, blue = colorsys.hsv_to_rgb((index * GOLDEN_RATIO) % 1.0, 0.75, (0.95, 0.7, 0.5)[index % 3])
    return round(red * 255), round(green * 255), round(blue * 255)
