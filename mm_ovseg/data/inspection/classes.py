"""Class names and what label numbers mean, as far as label files say it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mm_ovseg.data.builtin import CLASS_FILES
from mm_ovseg.data.inspection.facts import FileFacts
from mm_ovseg.data.inspection.numbering import IGNORED, LabelValues, number_classes
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.data.tile.label_values import Legend
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["PLACEHOLDER", "ClassScheme", "guess_classes"]

PLACEHOLDER = re.compile(r"class -?\d+")
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


def guess_classes(
    labels: Sequence[FileFacts], names: Sequence[str] = (), source: str = "", legend: Legend | None = None
) -> ClassScheme | None:
    """Say what the numbers in label files mean, where it is certain.

    A legend says it. Else names are those given, for the numbers that the files name so or, where they name none, for
    0 to N - 1 or 1 to N (:func:`~mm_ovseg.data.inspection.numbering.number_classes`); else those that GDAL keeps beside
    the files; else those of one of our class files, if the files have its palette; else "class 0", "class 1", ... by
    the number in the files. What the files mask or declare as no data has no part in it.

    Args:
        labels: Label files; those that cannot be read, or that hold no class numbers, are left out.
        names: Class names in the order of the numbers.
        source: Where the names or the legend come from.
        legend: What the numbers mean.

    Returns:
        The scheme; None if no file holds class numbers.

    Raises:
        VocabularyError: It is not certain; the message lists the numbers, and the option that says what they mean.
        DataError: The legend has something that is not a whole number.
    """
    labels = [entry for entry in labels if entry.values]
    if not labels:
        return None
    seen = LabelValues.of_files(labels)
    palette = Counter(entry.palette for entry in labels).most_common(1)[0][0]
    categories = next((entry.categories for entry in labels if entry.categories), {})
    known = None if palette is None else _match_palette(palette)
    colors = None
    if legend is not None:
        tidy, index_of = legend.classes, _apply(legend, seen)
    elif names:
        tidy = validate_class_names(names)
        by_name = _match_names(tidy, categories or _names_of_palette(known), seen)
        index_of = by_name or number_classes(tidy, seen)
    elif categories:
        tidy, index_of = _name(seen, {**_placeholders(seen), **categories})
        source = "the category names in .aux.xml"
    elif known:
        tidy, index_of, colors, source = known
    else:
        named = _placeholders(seen)
        if seen.is_binary_mask() or seen.disputed or not 0 < len(named) <= IGNORED:
            raise seen.refuse(
                "Nothing says which classes the label files show: they hold", dict.fromkeys(seen.values, "?")
            )
        tidy, index_of = _name(seen, named)
        source = ""
    if colors is None and palette is not None:
        colors = _palette_colors(palette, index_of, len(tidy))
    files = Counter({value: len(paths) for value, paths in seen.paths.items()})
    return ClassScheme(tidy, dict(sorted(index_of.items())), colors, source, seen.pixels, files)


def _apply(legend: Legend, seen: LabelValues) -> dict[int, int]:
    """Raw value -> class index or 255, by a legend that has all the values, but for one file's mistake."""
    table = legend.raster_table
    unknown = {value for value in seen.pixels if value not in table and value != IGNORED and not seen.is_odd(value)}
    if unknown:
        shown = ", ".join(map(str, sorted(unknown)))
        known = {value: "ignore" if index == IGNORED else legend.classes[index] for value, index in table.items()}
        raise seen.refuse(
            f"{legend.source} does not have {shown}, but the label files hold", known | dict.fromkeys(unknown, "?")
        )
    return {IGNORED: IGNORED, **table} if IGNORED in seen.pixels else table


def _match_names(names: Sequence[str], name_of: Mapping[int, str], seen: LabelValues) -> dict[int, int] | None:
    """Raw value -> class index or 255 of names that the files give to values; None where they do not give them all."""
    index_of = {name.casefold(): index for index, name in enumerate(names)}
    table = {value: index_of.get(name.casefold(), IGNORED) for value, name in name_of.items()}
    if not set(index_of.values()) <= set(table.values()):
        return None
    others = {value: name for value, name in name_of.items() if table[value] == IGNORED and _is_class(name)}
    table = {value: index for value, index in table.items() if value not in others}
    unsaid = {value for value in seen.pixels.keys() - table.keys() if value in others or not seen.is_odd(value)}
    if unsaid := unsaid - seen.no_class:
        meant = {value: "ignore" if index == IGNORED else names[index] for value, index in table.items()}
        raise seen.refuse(
            f"By their own names not all label values are of the classes {', '.join(names)}: the files hold",
            meant | dict.fromkeys(unsaid, "?"),
        )
    return dict.fromkeys(seen.no_class, IGNORED) | table


def _placeholders(seen: LabelValues) -> dict[int, str]:
    return {value: f"class {value}" for value in seen.values if value not in seen.no_class}


def _is_class(name: str) -> bool:
    return name.casefold() not in NO_CLASS


def _name(seen: LabelValues, name_of: Mapping[int, str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Classes and raw value -> class index, of names for values; what is called none, or occurs unnamed, is ignored."""
    named = {value: name for value, name in name_of.items() if _is_class(name)}
    names = list(dict.fromkeys(named.values()))  # two values of one name are one class
    index_of = {value: names.index(named[value]) if value in named else IGNORED for value in {*seen.pixels, *name_of}}
    return validate_class_names(names), index_of


def _match_palette(
    palette: Sequence[tuple[int, int, int]],
) -> tuple[tuple[str, ...], dict[int, int], list[tuple[int, int, int]], str] | None:
    """Names, numbers, colours and source of the class file that has a palette's colours; black is not a class."""
    for path in sorted(CLASS_FILES.glob("*.json")):
        content = read_class_file(path)
        index_of = {value: _closest(color, content.get("colors", ())) for value, color in enumerate(palette)}
        classes = [index for index in index_of.values() if index != IGNORED]
        strangers = [palette[value] for value, index in index_of.items() if index == IGNORED and any(palette[value])]
        if len(classes) > 2 and len(set(classes)) == len(classes) and not strangers:
            colors = [tuple(color) for color in content["colors"]]
            return validate_class_names(content["classes"]), index_of, colors, f"the palette, which is {path.stem}'s"
    return None


def _names_of_palette(known: tuple | None) -> dict[int, str]:
    """Value -> name by what :func:`_match_palette` has found."""
    if known is None:
        return {}
    names, index_of, _, _ = known
    return {value: "void" if index == IGNORED else names[index] for value, index in index_of.items()}


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
