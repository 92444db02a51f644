"""Class names and the meaning of label values, as far as label files determine them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.distance import cdist

from mm_ovseg.data.builtin import CLASS_FILES
from mm_ovseg.data.check.contents import FileContents
from mm_ovseg.data.check.label_numbers import IGNORED, LabelValues, number_classes
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.data.tile.label_values import Legend
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["PLACEHOLDER", "ClassScheme", "guess_classes"]

PLACEHOLDER = re.compile(r"class -?\d+")
# Names for no class, with which no model can be prompted.
NO_CLASS = {"ignore", "ignored", "no data", "no label", "nodata", "none", "unclassified", "undefined", "unknown"}
NO_CLASS |= {"unlabeled", "unlabelled", "void"}
COLOR_TOLERANCE = 2  # of 255; image formats round

Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassScheme:
    """The meaning of the values in label files.

    Attributes:
        names: The classes.
        index_of: Raw value -> class index or 255, sorted; without values that are assumed to be mistakes.
        colors: (red, green, blue) of each class; None for the default ones.
        source: Where the names come from, for users; empty if unknown.
        pixels: Raw value -> number of pixels in all files.
        files: Raw value -> number of files that have it.
    """

    names: tuple[str, ...]
    index_of: dict[int, int]
    colors: list[Color] | None
    source: str
    pixels: Counter[int] = field(repr=False)
    files: Counter[int] = field(repr=False)

    @property
    def label_values(self) -> dict[int, int] | None:
        """As for registration; None if the files contain class indices and 255."""
        plain = {index: index for index in range(len(self.names))} | {IGNORED: IGNORED}
        return None if {IGNORED: IGNORED, **self.index_of} == plain else self.index_of


def guess_classes(
    labels: Sequence[FileContents], names: Sequence[str] = (), source: str = "", legend: Legend | None = None
) -> ClassScheme | None:
    """Determine the meaning of the values in label files, if it is certain.

    A legend decides, if given. Otherwise the names are the given ones, for the values to which the files give them or,
    without names in the files, for 0 to N - 1 or 1 to N (:func:`~mm_ovseg.data.check.label_numbers.number_classes`);
    else those that GDAL stores beside the files; else those of the package's class file whose palette the files have;
    else "class 0", "class 1", ... by value. Masked and nodata pixels do not count.

    Args:
        labels: Label files; those that cannot be read or contain no class numbers are ignored.
        names: Class names in the order of the values.
        source: Where the names or the legend come from.
        legend: Meaning of the values.

    Returns:
        The scheme; None if no file contains class numbers.

    Raises:
        VocabularyError: It is uncertain; the message lists the values, and the option that gives their meaning.
        DataError: A value of the legend is not an integer.
    """
    labels = [file for file in labels if file.values]
    if not labels:
        return None
    seen = LabelValues(labels)
    palette = Counter(file.palette for file in labels).most_common(1)[0][0]
    categories = next((file.categories for file in labels if file.categories), {})
    placeholders = {value: f"class {value}" for value in seen.pixels if value not in seen.no_class}
    published = None if palette is None else _find_palette(palette)
    colors = None
    if legend is not None:
        classes, index_of = legend.classes, _apply(legend, seen)
    elif names:
        classes = validate_class_names(names)
        name_of = categories
        if published and not categories:
            name_of = {
                value: "void" if index == IGNORED else published.names[index]
                for value, index in published.index_of.items()
            }
        index_of = _match_names(classes, name_of, seen) or number_classes(classes, seen)
    elif categories:
        classes, index_of = _name(seen, placeholders | categories)
        source = "the category names in .aux.xml"
    elif published:
        classes, index_of, colors, source = published.names, published.index_of, published.colors, published.source
    elif seen.is_binary_mask or seen.disputed or not 0 < len(placeholders) <= IGNORED:
        unknown = dict.fromkeys(seen.pixels, "?")
        raise seen.ambiguity("Nothing says which classes the label files show: they hold", unknown)
    else:
        classes, index_of = _name(seen, placeholders)
        source = ""
    if colors is None and palette is not None:
        colors = _palette_colors(palette, index_of, len(classes))
    files = Counter({value: len(of_value) for value, of_value in seen.files.items()})
    return ClassScheme(classes, dict(sorted(index_of.items())), colors, source, seen.pixels, files)


def _apply(legend: Legend, seen: LabelValues) -> dict[int, int]:
    """Raw value -> class index or 255, by a legend that has all values except mistakes in a single file."""
    table = legend.raster_table
    unknown = {value for value in seen.pixels.keys() - table.keys() - {IGNORED} if not seen.is_in_one_file(value)}
    if unknown:
        known = {value: "ignore" if index == IGNORED else legend.classes[index] for value, index in table.items()}
        raise seen.ambiguity(
            f"{legend.source} does not have {', '.join(map(str, sorted(unknown)))}, but the label files hold",
            known | dict.fromkeys(unknown, "?"),
        )
    return {IGNORED: IGNORED, **table} if IGNORED in seen.pixels else table


def _match_names(names: Sequence[str], name_of: Mapping[int, str], seen: LabelValues) -> dict[int, int] | None:
    """Raw value -> class index or 255, by names that files give to values; None if names are missing there."""
    index_of = {name.casefold(): index for index, name in enumerate(names)}
    table = {value: index_of.get(name.casefold(), IGNORED) for value, name in name_of.items()}
    if not set(index_of.values()) <= set(table.values()):
        return None
    others = {value for value, name in name_of.items() if table[value] == IGNORED and _is_class(name)}
    table = {value: index for value, index in table.items() if value not in others}
    unsaid = seen.pixels.keys() - table.keys() - seen.no_class
    if unsaid := {value for value in unsaid if value in others or not seen.is_in_one_file(value)}:
        meant = {value: "ignore" if index == IGNORED else names[index] for value, index in table.items()}
        raise seen.ambiguity(
            f"The files' own names say that not all values are of the classes {', '.join(names)}: they hold",
            meant | dict.fromkeys(unsaid, "?"),
        )
    return dict.fromkeys(seen.no_class, IGNORED) | table


def _is_class(name: str) -> bool:
    return name.casefold() not in NO_CLASS


def _name(seen: LabelValues, name_of: Mapping[int, str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Classes, and raw value -> class index, of named values; 255 without a name or if it means no class."""
    named = {value: name for value, name in name_of.items() if _is_class(name)}
    names = list(dict.fromkeys(named.values()))  # two values with the same name are one class
    index_of = {value: names.index(named[value]) if value in named else IGNORED for value in {*seen.pixels, *name_of}}
    return validate_class_names(names), index_of


def _find_palette(palette: Sequence[Color]) -> ClassScheme | None:
    """The classes of the class file with a palette's colours; black is not a class."""
    for path in sorted(CLASS_FILES.glob("*.json")):
        content = read_class_file(path)
        if "colors" not in content:
            continue
        is_close = cdist(palette, content["colors"], "chebyshev") <= COLOR_TOLERANCE  # (values, classes)
        is_class, is_black = is_close.any(axis=1), ~np.any(palette, axis=1)
        index = np.where(is_class, is_close.argmax(axis=1), IGNORED)
        if is_class.sum() > 2 and len(set(index[is_class])) == is_class.sum() and (is_class | is_black).all():
            index_of = dict(enumerate(index.tolist()))
            colors = [tuple(color) for color in content["colors"]]
            source = f"the palette, which is that of {path.stem}"
            return ClassScheme(validate_class_names(content["classes"]), index_of, colors, source, Counter(), Counter())
    return None


def _palette_colors(palette: Sequence[Color], index_of: Mapping[int, int], count: int) -> list[Color] | None:
    """The colour of each class; None if the palette does not distinguish them or is a grey ramp."""
    colors = {index: palette[value] for value, index in index_of.items() if 0 <= value < len(palette)}
    colors.pop(IGNORED, None)
    is_gray = all(len(set(color)) == 1 for color in colors.values())
    if is_gray or not len(set(colors.values())) == count == len(colors):
        return None
    return [colors[index] for index in range(count)]
