"""Class names and what label numbers mean, as far as label files say it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mm_ovseg.data.builtin import CLASS_FILES
from mm_ovseg.data.inspection.facts import FileFacts
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.errors import VocabularyError
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["FILES_TO_COMPARE", "PLACEHOLDER", "ClassScheme", "guess_classes"]

PLACEHOLDER = re.compile(r"class \d+")
FILES_TO_COMPARE = 4  # label maps from which on a number that only one of them has is worth a look
IGNORED = 255
# Names that stand for no class, of which models cannot be asked.
NO_CLASS = {"ignore", "ignored", "no data", "no label", "nodata", "none", "unclassified", "undefined", "unknown"}
NO_CLASS |= {"unlabeled", "unlabelled", "void"}
COLOR_TOLERANCE = 2  # of 255; picture formats round


@dataclass(frozen=True)
class ClassScheme:
    """What the numbers in label files mean.

    Attributes:
        names: The classes.
        index_of: Raw value -> class index or 255, sorted; a value that is taken for a mistake is missing.
        colors: (red, green, blue) of each class; None for conventional ones.
        source: Where the names come from, for people; empty where the files do not say.
        pixels: Raw value -> number of pixels in all files.
        files: Raw value -> number of files that have it.
    """

    names: tuple[str, ...]
    index_of: dict[int, int]
    colors: list[tuple[int, int, int]] | None
    source: str
    pixels: Counter[int] = field(repr=False)
    files: Counter[int] = field(repr=False)

    @property
    def label_values(self) -> dict[int, int] | None:
        """As a declaration has them; None where the files hold class indices, and 255."""
        plain = {index: index for index in range(len(self.names))}
        return None if {**plain, IGNORED: IGNORED} == {IGNORED: IGNORED, **self.index_of} else self.index_of


def guess_classes(labels: Sequence[FileFacts], names: Sequence[str] = (), source: str = "") -> ClassScheme | None:
    """Say what the numbers in label files mean.

    Names are those given; else those that GDAL keeps beside the files; else those of one of our class files, if the
    files have its palette; else "class 0", "class 1", ... by the number in the files.

    Args:
        labels: Label files; those that cannot be read, or that hold no class numbers, are left out.
        names: Class names in the order of the numbers.
        source: Where those come from.

    Returns:
        The scheme; None if no file holds class numbers.

    Raises:
        VocabularyError: The names given do not fit the numbers.
    """
    labels = [entry for entry in labels if entry.values]
    pixels: Counter[int] = Counter()
    files: Counter[int] = Counter()
    for entry in labels:
        pixels.update(entry.values)
        files.update(entry.values.keys())
    if not pixels:
        return None
    values = sorted(pixels)
    palette = Counter(entry.palette for entry in labels).most_common(1)[0][0]
    categories = next((entry.categories for entry in labels if entry.categories), {})
    colors = None
    if names:
        tidy = validate_class_names(names)
        index_of = _number(tidy, files, len(labels))
    elif categories:
        tidy, index_of = _name(values, {**{value: f"class {value}" for value in values}, **categories})
        source = "the category names in .aux.xml"
    elif palette is not None and (known := _match_palette(palette)):
        tidy, index_of, colors, source = known
    else:
        tidy, index_of = _name(values, {value: f"class {value}" for value in values if value != IGNORED})
        source = ""
    if colors is None and palette is not None:
        colors = _palette_colors(palette, index_of, len(tidy))
    return ClassScheme(tidy, dict(sorted(index_of.items())), colors, source, pixels, files)


def _number(names: tuple[str, ...], files: Mapping[int, int], labels: int) -> dict[int, int]:
    """Raw value -> class index or 255, of given names: from 0, from 1, or in the order of the values that occur.

    Args:
        names: The names.
        files: Value -> number of label files that have it.
        labels: Number of label files. If there are several, what one alone has may be a mistake, and gets no class.
    """
    count, values = len(names), sorted(value for value in files if value != IGNORED)
    common = [value for value in values if files[value] > 1 or labels < FILES_TO_COMPARE]
    for some in filter(None, (values or [0], common)):
        if 0 <= some[0] <= some[-1] < count:
            return {value: value for value in range(count)}
        if 0 <= some[0] <= some[-1] == count:
            return {0: IGNORED, **{value: value - 1 for value in range(1, count + 1)}}
    for some in (values, [value for value in values if value != 0], common):
        if len(some) == count:
            zero = {0: IGNORED} if 0 in values else {}
            return {**zero, **{value: index for index, value in enumerate(some)}}
    raise VocabularyError(
        f"There are {count} class names ({', '.join(names)}), but the label files hold the values "
        f"{', '.join(map(str, sorted(files)))}; give one name for each value, in their order."
    )


def _name(values: Sequence[int], name_of: Mapping[int, str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Classes and raw value -> class index, of names for values; what is called none, or occurs unnamed, is ignored."""
    named = {value: name for value, name in name_of.items() if name.casefold() not in NO_CLASS}
    names = list(dict.fromkeys(named.values()))  # two values of one name are one class
    index_of = {value: names.index(named[value]) if value in named else IGNORED for value in {*values, *name_of}}
    return validate_class_names(names), index_of


def _match_palette(
    palette: Sequence[tuple[int, int, int]],
) -> tuple[tuple[str, ...], dict[int, int], list[tuple[int, int, int]], str] | None:
    """Names, numbers, colours and source of the class file that has a palette's colours; black is no class."""
    for path in sorted(CLASS_FILES.glob("*.json")):
        content = read_class_file(path)
        index_of = {value: _closest(color, content.get("colors", ())) for value, color in enumerate(palette)}
        classes = [index for index in index_of.values() if index != IGNORED]
        strangers = [palette[value] for value, index in index_of.items() if index == IGNORED and any(palette[value])]
        if len(classes) > 2 and len(set(classes)) == len(classes) and not strangers:
            colors = [tuple(color) for color in content["colors"]]
            return validate_class_names(content["classes"]), index_of, colors, f"the palette, which is {path.stem}'s"
    return None


def _closest(color: Sequence[int], colors: Sequence[Sequence[int]]) -> int:
    for index, other in enumerate(colors):
        if max(abs(first - second) for first, second in zip(color, other, strict=True)) <= COLOR_TOLERANCE:
            return index
    return IGNORED


def _palette_colors(
    palette: Sequence[tuple[int, int, int]], index_of: Mapping[int, int], count: int
) -> list[tuple[int, int, int]] | None:
    """The colour of each class; None where the palette does not tell them apart, or is a grey ramp."""
    colors = {index: palette[value] for value, index in index_of.items() if 0 <= value < len(palette)}
    colors.pop(IGNORED, None)
    distinct = len(set(colors.values())) == count == len(colors)
    is_gray = all(len(set(color)) == 1 for color in colors.values())
    return [colors[index] for index in range(count)] if distinct and not is_gray else None
