"""Which number in label files is which class: said only where the numbers leave no choice."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mm_ovseg.data.inspection.facts import FileFacts
from mm_ovseg.errors import VocabularyError

__all__ = ["FILES_TO_COMPARE", "IGNORED", "LabelValues", "number_classes"]

FILES_TO_COMPARE = 4  # label maps from which on a number that only one of them has is worth a look
IGNORED = 255
NOISE = 0.02  # share of the pixels up to which a number between those of JPEG files is its rounding
VALUES_SHOWN = 20


@dataclass(frozen=True)
class LabelValues:
    """The numbers that label files hold where they have data.

    Attributes:
        pixels: Number -> pixels in all files.
        paths: Number -> the files that have it.
        number: Number of files.
        marks: Numbers that no class has: negative ones, and the largest that a file's type has.
        inexact: Numbers that occur in files of lossy compression only.
        disputed: Numbers that some files declare as no data, and others hold.
    """

    pixels: Counter[int]
    paths: dict[int, list[Path]]
    number: int
    marks: frozenset[int]
    inexact: frozenset[int]
    disputed: frozenset[int] = field(default=frozenset())

    @classmethod
    def of_files(cls, labels: Sequence[FileFacts]) -> "LabelValues":
        """Count the numbers of label files that hold any."""
        pixels: Counter[int] = Counter()
        files: dict[int, list[FileFacts]] = {}
        for entry in labels:
            pixels.update(entry.values)
            for value in entry.values:
                files.setdefault(value, []).append(entry)
        nodata = {value for entry in labels for value in entry.info.nodata} - {None, IGNORED}
        return cls(
            pixels,
            {value: [entry.path for entry in entries] for value, entries in files.items()},
            len(labels),
            frozenset(value for value, entries in files.items() if value < 0 or any(_is_last(value, entries))),
            frozenset(value for value, entries in files.items() if all(entry.is_lossy for entry in entries)),
            frozenset(value for value in files if value in nodata),
        )

    @property
    def values(self) -> list[int]:
        """The numbers, sorted."""
        return sorted(self.pixels)

    @property
    def no_class(self) -> set[int]:
        """The numbers that stand for no class by convention: ``marks`` and 255."""
        return {value for value in self.pixels if value in self.marks or value == IGNORED}

    def is_binary_mask(self) -> bool:
        """Whether there is 0 and, for what else there may be, the type's largest number: 0 and 255, most often."""
        others = self.pixels.keys() - {0}
        return 0 in self.pixels and len(others) == 1 and others <= self.no_class and min(others) > 0

    def is_odd(self, value: int) -> bool:
        """Whether only one of several files has a number, which may be that file's mistake."""
        return self.number >= FILES_TO_COMPARE and len(self.paths[value]) == 1

    def share(self, values: Iterable[int]) -> float:
        """The share of the pixels that have one of some numbers, 0..1."""
        return sum(self.pixels[value] for value in values) / sum(self.pixels.values())

    def refuse(self, reason: str, suggested: Mapping[int, str]) -> VocabularyError:
        """The error that lists the numbers, and the option that says what they mean.

        Args:
            reason: What is not certain, up to "the values".
            suggested: Number -> class name, "ignore" or "?" for the option.
        """
        shown = self.values[:VALUES_SHOWN]
        more = ", ..." if len(self.pixels) > len(shown) else ""
        separator = "; " if any("," in name for name in suggested.values()) else ", "
        entries = separator.join(f"{value}: {name}" for value, name in sorted(suggested.items()))
        how = "with class names, or ignore, in place of ?" if "?" in suggested.values() else "if that is right"
        return VocabularyError(
            f"{reason} the values {', '.join(map(str, shown))}{more}; say what each means with "
            f'--label-values "{entries}", {how} ({"; ".join(map(self._describe, shown))}{more}).'
        )

    def _describe(self, value: int) -> str:
        paths = self.paths[value]
        where = f"only in {paths[0]}" if self.is_odd(value) else f"in {len(paths)} of {self.number} files"
        disputed = ", declared as no data in others" if value in self.disputed else ""
        return f"{value} has {100 * self.share([value]):.2g}% of the pixels, {where}{disputed}"


def number_classes(names: Sequence[str], seen: LabelValues) -> dict[int, int]:
    """Give numbers to classes that are named in the order of their numbers, where that leaves no choice.

    The numbers have to be 0 to N - 1 or, where no 0 occurs, 1 to N, for N names. Beside all of them there may be 255,
    negative numbers and the type's largest (no label), what one of several files has only (that file's mistake, and
    left out), and in JPEG files some pixels of other numbers (rounding). Of 0 to N - 1 some, but not 0, may be missing
    where neither negative numbers nor the type's largest occur.

    Args:
        names: The class names.
        seen: The numbers in the files.

    Returns:
        Number -> class index, or 255 for no label; a number that is one file's mistake is missing.

    Raises:
        VocabularyError: It cannot be told; the message lists the numbers, and the option that says what they mean.
    """
    count = len(names)
    beside = seen.no_class - set(range(count))
    plain = seen.pixels.keys() - beside
    if not seen.is_binary_mask() and not seen.disputed:
        found = [wanted for first in (0, 1) if _fits(wanted := range(first, first + count), plain, seen)]
        if len(found) == 1:
            ignored = beside | _rounding(plain - set(found[0]), seen)
            return dict.fromkeys(ignored, IGNORED) | {value: index for index, value in enumerate(found[0])}
        is_part = 0 in plain and beside <= {IGNORED} and _are_mistakes(plain - set(range(count)), count, seen)
        if is_part and not found and len(seen.pixels) != count:
            return {value: value for value in range(count)} | dict.fromkeys(beside, IGNORED)
    raise seen.refuse(
        f"There are {count} class names ({', '.join(names)}), but the label files hold", _suggest(names, seen)
    )


def _fits(wanted: range, plain: set[int], seen: LabelValues) -> bool:
    """Whether numbers are all those wanted, and besides but the mistake of a file and the rounding of JPEG."""
    strangers = plain - set(wanted)
    return set(wanted) <= plain and _are_mistakes(strangers - _rounding(strangers, seen), len(wanted), seen)


def _are_mistakes(strangers: set[int], count: int, seen: LabelValues) -> bool:
    """Whether each number is one file's; 0 and N are classes in another way of numbering, and never mistakes."""
    return all(value > count and seen.is_odd(value) for value in strangers)


def _rounding(strangers: set[int], seen: LabelValues) -> set[int]:
    """Those of some numbers that JPEG has made, where they are few."""
    rounded = strangers & seen.inexact
    return rounded if seen.share(rounded) <= NOISE else set()


def _suggest(names: Sequence[str], seen: LabelValues) -> dict[int, str]:
    """What a person may have meant: the names in the order of the numbers; "?" where their numbers differ."""
    if seen.is_binary_mask():
        return dict(zip(seen.values, names if len(names) == 2 else "??", strict=True))
    ignored = dict.fromkeys(seen.no_class, "ignore")
    plain = [value for value in seen.values if value not in ignored]
    indices = dict(enumerate(names))
    if indices.keys() <= set(plain) and len(names) not in plain:
        return ignored | dict.fromkeys(plain[:VALUES_SHOWN], "?") | indices
    for some in (plain, [value for value in plain if value != 0]):
        if len(some) == len(names):
            zero = {0: "ignore"} if 0 in plain else {}
            return ignored | zero | dict(zip(some, names, strict=True))
    return ignored | dict.fromkeys(plain[:VALUES_SHOWN], "?")


def _is_last(value: int, entries: Iterable[FileFacts]) -> Iterable[bool]:
    """Whether a number is the largest of the type of each of some files."""
    for entry in entries:
        dtype = np.dtype(entry.info.dtypes[entry.bands[0] - 1])
        yield value == (np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)).max
