"""Class names as users write them."""

import unicodedata
from collections.abc import Sequence

from mm_ovseg.errors import VocabularyError

__all__ = [
    "GENERIC_CLASSES",
    "find_class",
    "is_text",
    "parse_class_names",
    "seen_classes",
    "select_unseen",
    "split_synonyms",
    "unseen_classes",
    "validate_class_names",
]

GENERIC_CLASSES = ("water", "road", "city", "forest")  # where no training says what there is
NOT_TEXT = ("Cc", "Cs")


def validate_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Normalise the white space of class names, and check that there is at least one, none empty and none repeated.

    Comparison ignores case and different Unicode spellings of a letter. Control characters are refused.

    Raises:
        VocabularyError: with the names at fault.
    """
    _check_texts(names)
    tidy = tuple(" ".join(unicodedata.normalize("NFC", name).split()) for name in names)
    if not tidy:
        raise VocabularyError('The list of class names is empty; give at least one, e.g. "water,road".')
    if not all(split_synonyms(name) for name in tidy):
        raise VocabularyError(f"A class name in {list(names)} is empty; remove the extra comma or name the class.")
    if unprintable := [name for name in tidy if not is_text(name)]:
        raise VocabularyError(f"The class name {unprintable[0]!r} contains a control character; type it again.")
    folded = [name.casefold() for name in tidy]
    if repeated := [name for index, name in enumerate(tidy) if folded[index] in folded[:index]]:
        raise VocabularyError(f"Class names given more than once: {', '.join(repeated)}; keep each once.")
    return tidy


def parse_class_names(text: str, separator: str | None = None) -> tuple[str, ...]:
    """Parse class names from a command line.

    ``"water,road,city"`` is three classes. With a semicolon, commas separate the synonyms of one class:
    ``"water,river,lake; road,street"`` is two classes, ``"water,river;"`` is one.

    Args:
        text: the names.
        separator: ``","`` or ``";"`` between classes; None: a semicolon if there is one.

    Raises:
        VocabularyError: no name is given, or one is empty or repeated.
    """
    text = _decode_typed(text).strip()
    separator = separator or (";" if ";" in text else ",")
    if separator == ";":
        text = text.removesuffix(";")
    parts = text.split(separator) if text else []
    return validate_class_names([", ".join(split_synonyms(part)) for part in parts])


def select_unseen(classes: Sequence[str], unseen: Sequence[str]) -> tuple[str, ...]:
    """The names in ``unseen``, spelled and ordered as in ``classes``.

    Raises:
        VocabularyError: an unseen name is not among the classes.
    """
    _check_texts(unseen)
    wanted = {" ".join(name.split()).casefold(): name for name in unseen}
    known = {name.casefold() for name in classes}
    if unknown := [name for key, name in wanted.items() if key not in known]:
        raise VocabularyError(
            f"The unseen names {', '.join(unknown)} are not among the classes ({', '.join(classes)}); "
            "use names from that list."
        )
    return unseen_classes(classes, (), unseen)


def find_class(name: str, classes: Sequence[str]) -> int | None:
    """The index of the class with this name, in any case, or this first synonym; None if there is none."""
    wanted = ", ".join(split_synonyms(name)).casefold()
    synonyms = [[synonym.casefold() for synonym in split_synonyms(known)] for known in classes]
    for spellings in (map(", ".join, synonyms), (first for first, *_ in synonyms)):
        for index, spelling in enumerate(spellings):
            if spelling == wanted:
                return index
    return None


def seen_classes(classes: Sequence[str], unseen: Sequence[str]) -> tuple[str, ...]:
    """The classes that training sees: those of ``classes``, in order, that are not in ``unseen``."""
    return tuple(name for name in classes if name not in unseen)


def unseen_classes(classes: Sequence[str], declared: Sequence[str], chosen: Sequence[str] | None) -> tuple[str, ...]:
    """The classes whose labels an experiment does not see, in the order of ``classes``.

    Args:
        classes: classes of a dataset.
        declared: the dataset's own unseen classes.
        chosen: ``DATASETS.UNSEEN``, which may also name classes of other datasets; None for the dataset's own.
    """
    if chosen is None:
        return tuple(declared)
    wanted = {" ".join(name.split()).casefold() for name in chosen}
    return tuple(name for name in classes if name.casefold() in wanted)


def is_text(name: str) -> bool:
    """Whether a name has neither control characters nor surrogates, which stand for undecodable bytes."""
    return not any(unicodedata.category(letter) in NOT_TEXT for letter in name)


def split_synonyms(name: str) -> list[str]:
    """``"water, river"`` -> ``["water", "river"]``."""
    return [synonym.strip() for synonym in name.split(",") if synonym.strip()]


def _decode_typed(text: str) -> str:
    """Decode UTF-8 input under another locale, where Python keeps the bytes as surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text


def _check_texts(names: Sequence[str]) -> None:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise VocabularyError(f"Class names must be a list of strings, not {names!r}.")
    if other := [name for name in names if not isinstance(name, str)]:
        raise VocabularyError(f"The class name {other[0]!r} is not a string; write it in quotes.")
