"""Matching values in label files with classes, only if the values leave no choice."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mm_ovseg.data.check.contents import FileContents
from mm_ovseg.errors import VocabularyError

__all__ = ["IGNORED", "MIN_FILES_TO_COMPARE", "LabelValues", "number_classes"]

MIN_FILES_TO_COMPARE = 4  # label maps, from which a value that only one of them has is suspicious
IGNORED = 255
MAX_ROUNDING = 0.02  # share of the pixels up to which other values in JPEG files are compression artefacts
VALUES_SHOWN = 20


class LabelValues:
    """The values of the valid pixels of label files.

    Attributes:
        pixels: Value -> number of pixels in all files; sorted.
        files: Value -> the files that have it.
        num_files: Number of files.
        no_class: Values for no class by convention: 255, negative ones, and the largest of a file's type.
        inexact: Values that occur only in files with lossy compression.
        disputed: Values that some files declare as nodata and others contain.
    """

    def __init__(self, labels: Sequence[FileContents]) -> None:
        self.files: dict[int, list[FileContents]] = defaultdict(list)
        pixels: Counter[int] = Counter()
        for file in labels:
            pixels.update(file.values)
            for value in file.values:
                self.files[value].append(file)
        self.pixels = Counter(dict(sorted(pixels.items())))
        self.num_files = len(labels)
        self.no_class = {
            value
            for value, files in self.files.items()
            if value < 0 or value == IGNORED or any(value == _largest(file.dtype) for file in files)
        }
        self.inexact = {value for value, files in self.files.items() if all(file.is_lossy for file in files)}
        nodata = {value for file in labels for value in file.info.nodata} - {None, IGNORED}
        self.disputed = {value for value in self.files if value in nodata}

    @property
    def is_binary_mask(self) -> bool:
        """Whether the values are 0 and the largest of the type, usually 255."""
        others = self.pixels.keys() - {0}
        return 0 in self.pixels and len(others) == 1 and others <= self.no_class and min(others) > 0

    def is_in_one_file(self, value: int) -> bool:
        """Whether only one of several files has a value, which may be a mistake."""
        return self.num_files >= MIN_FILES_TO_COMPARE and len(self.files[value]) == 1

    def share(self, values: Iterable[int]) -> float:
        """The share of the pixels with one of some values, 0..1."""
        return sum(self.pixels[value] for value in values) / self.pixels.total()

    def ambiguity(self, reason: str, suggested: Mapping[int, str]) -> VocabularyError:
        """The error that lists the values, and the option that gives their meaning.

        Args:
            reason: What is uncertain, up to "the values".
            suggested: Value -> class name, "ignore" or "?", for the option.
        """
        shown = list(self.pixels)[:VALUES_SHOWN]
        more = ", ..." if len(self.pixels) > len(shown) else ""
        separator = "; " if any("," in name for name in suggested.values()) else ", "
        entries = separator.join(f"{value}: {name}" for value, name in sorted(suggested.items()))
        how = "with class names, or ignore, in place of ?" if "?" in suggested.values() else "if that is right"
        return VocabularyError(
            f"{reason} the values {', '.join(map(str, shown))}{more}; give the meaning of each with "
            f'--label-values "{entries}", {how} ({"; ".join(map(self._describe, shown))}{more}).'
        )

    def _describe(self, value: int) -> str:
        files = self.files[value]
        where = (
            f"only in {files[0].path}" if self.is_in_one_file(value) else f"in {len(files)} of {self.num_files} files"
        )
        disputed = ", declared as nodata in others" if value in self.disputed else ""
        return f"{value} has {100 * self.share([value]):.2g}% of the pixels, {where}{disputed}"


def number_classes(names: Sequence[str], seen: LabelValues) -> dict[int, int]:
    """Assign values to classes that are named in the order of their values, if that leaves no choice.

    The values must be 0 to N - 1 or, if no 0 occurs, 1 to N, for N names. There may also be 255, negative values and
    the largest of the type (no label), values that only one of several files has (mistakes, which are omitted), and
    in JPEG files some pixels of other values (artefacts). Some of 0 to N - 1, but not 0, may be missing if neither
    negative values nor the largest of the type occur.

    Args:
        names: The class names.
        seen: The values in the files.

    Returns:
        Value -> class index, or 255 for no label; without mistakes.

    Raises:
        VocabularyError: It is uncertain; the message lists the values, and the option that gives their meaning.
    """
    count = len(names)
    beside = seen.no_class - set(range(count))
    plain = seen.pixels.keys() - beside
    if not seen.is_binary_mask and not seen.disputed:
        complete = {}  # first value -> ignored values
        for first in (0, 1):
            others = plain - set(range(first, first + count))
            rounded = others & seen.inexact
            rounded = rounded if seen.share(rounded) <= MAX_ROUNDING else set()
            if len(plain) - len(others) == count and _are_mistakes(others - rounded, count, seen):
                complete[first] = beside | rounded
        if len(complete) == 1:
            ((first, ignored),) = complete.items()
            return dict.fromkeys(ignored, IGNORED) | {first + index: index for index in range(count)}
        is_part = 0 in plain and beside <= {IGNORED} and _are_mistakes(plain - set(range(count)), count, seen)
        if is_part and not complete and len(seen.pixels) != count:
            return {value: value for value in range(count)} | dict.fromkeys(beside, IGNORED)
    raise seen.ambiguity(
        f"There are {count} class names ({', '.join(names)}), but the label files hold", _suggest(names, seen)
    )


def _are_mistakes(values: set[int], count: int, seen: LabelValues) -> bool:
    """Whether each value is in one file only; 0 and N, classes in the other numbering, never count as mistakes."""
    return all(value > count and seen.is_in_one_file(value) for value in values)


def _suggest(names: Sequence[str], seen: LabelValues) -> dict[int, str]:
    """A suggestion: the names in the order of the values; "?" if their numbers differ."""
    if seen.is_binary_mask:
        return dict(zip(seen.pixels, names if len(names) == 2 else "??", strict=True))
    ignored = dict.fromkeys(seen.no_class, "ignore")
    plain = [value for value in seen.pixels if value not in ignored]
    indices = dict(enumerate(names))
    unknown = dict.fromkeys(plain[:VALUES_SHOWN], "?")
    if indices.keys() <= set(plain) and len(names) not in plain:
        return ignored | unknown | indices
    for values in (plain, [value for value in plain if value != 0]):
        if len(values) == len(names):
            zero = {0: "ignore"} if 0 in plain else {}
            return ignored | zero | dict(zip(values, names, strict=True))
    return ignored | unknown


def _largest(dtype: str) -> float:
    return (np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)).max
