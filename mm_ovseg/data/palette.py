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
    "LAND_COVER",
    "NONE_COLOR",
    "SERIES_COLORS",
    "LegendEntry",
    "class_colors",
    "class_legend",
    "default_colors",
]

RGBColor = tuple[int, int, int]

NONE_COLOR: RGBColor = (190, 190, 190)

# The colours of kinds of land cover, by their names: found by a search near the conventional ones for the largest
# minimum difference in CIELAB, to all eyes (Machado et al. 2009), from each other, NONE_COLOR, white and light grey,
# also at 60% opacity over clouds and dark ground.
LAND_COVER: dict[tuple[str, ...], RGBColor] = {
    ("water", "lake", "river", "sea", "ocean", "water body", "water bodies"): (8, 73, 239),
    ("forest", "tree", "trees", "tree cover", "woodland"): (64, 116, 70),
    (
        *("city", "town", "urban area", "building", "buildings", "house", "houses"),
        *("built", "built area", "built-up", "built-up area"),
    ): (173, 5, 0),
    (
        *("farmland", "field", "fields", "crop", "crops", "cropland"),
        *("agriculture", "agriculture land", "agricultureland", "agricultural land"),
    ): (255, 215, 113),
    ("road", "roads", "street", "highway"): (82, 17, 96),
    ("background", "backbroad"): (60, 65, 75),
    ("bare ground", "bare land", "bareland", "bare", "bare soil", "beach", "sand", "desert"): (226, 155, 103),
    ("grassland", "grass", "meadow", "pasture", "rangeland"): (129, 255, 13),
    ("snow", "ice", "snow and ice", "glacier"): (178, 213, 252),
    ("shrubland", "shrubs", "scrub", "shrub and scrub"): (169, 152, 21),
    ("wetland", "wetlands", "flooded vegetation", "swamp", "mangroves"): (60, 151, 176),
    (
        *("industrial area", "industrial", "residential area", "residential"),
        *("developed space", "developedspace"),
    ): (171, 96, 235),
}
COLOR_OF = {name: color for names, color in LAND_COVER.items() for name in names}

SERIES_COLORS = tuple(  # of lines and bars on white
    COLOR_OF[name]
    for name in ("water", "bare ground", "forest", "wetland", "city", "residential area", "road", "farmland")
)

GOLDEN_RATIO = 0.618034


def default_colors(classes: Sequence[str]) -> list[RGBColor]:
    """One colour per class: the conventional one of its kind of land cover, or else one that no other class has.

    Readers who see no red, green or blue can tell apart the colours of up to 12 classes.

    Args:
        classes: Class names, case-insensitive. Only the first of several synonyms ("water, river") counts.

    Returns:
        One (red, green, blue) tuple per class, 0..255. The same names in the same order give the same colours.
    """
    known = [COLOR_OF.get(name.split(",")[0].strip().casefold()) for name in classes]
    # The rarest kinds of land cover first: an unknown class should not look like water.
    others = itertools.chain(reversed(LAND_COVER.values()), map(_fallback_color, itertools.count()))
    free = (color for color in others if color not in known)
    colors: list[RGBColor] = []
    for color in known:  # two names of one kind must differ in a picture
        colors.append(next(free) if color is None or color in colors else color)
    return colors


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


def _fallback_color(index: int) -> RGBColor:
    """A colour from an endless series of distinct ones: hues a golden ratio apart, in three brightnesses."""
    red, green, blue = colorsys.hsv_to_rgb((index * GOLDEN_RATIO) % 1.0, 0.75, (0.95, 0.7, 0.5)[index % 3])
    return round(red * 255), round(green * 255), round(blue * 255)
