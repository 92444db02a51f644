"""Class names given on a command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mm_ovseg.data.builtin import find_class_file
from mm_ovseg.data.palette import class_colors
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.errors import VocabularyError
from mm_ovseg.vocabulary import parse_class_names, select_unseen, validate_class_names

__all__ = ["Vocabulary", "read_vocabulary", "vocabulary_inputs"]


class Vocabulary(NamedTuple):
    """Class names, the unseen ones among them, and a colour (red, green, blue) for each class."""

    classes: tuple[str, ...]
    unseen: tuple[str, ...]
    colors: Sequence[Sequence[int]]


def read_vocabulary(classes: str, unseen: str | None) -> Vocabulary:
    """Read typed class names, or those of a class file.

    Raises:
        ConfigError: the class file is missing or malformed.
        VocabularyError: no name is given, one is empty or repeated, or an unseen one is not among the classes.
    """
    if classes.endswith(".json"):
        content = read_class_file(find_class_file(classes))
        try:
            names = validate_class_names(content["classes"])
        except VocabularyError as error:
            raise VocabularyError(f"{classes}: {error}") from error
    else:
        names, content = parse_class_names(classes), {}
    if unseen is not None:
        separator = ";" if any("," in name for name in names) else ","
        content["unseen"] = parse_class_names(unseen, separator) if unseen else ()
    colors = class_colors(names, content.get("colors"), owner=classes)
    return Vocabulary(names, select_unseen(names, content.get("unseen", ())), colors)


def vocabulary_inputs(classes: str | None) -> dict[str, list[Path]]:
    """The class file, if ``classes`` names one, for :func:`mm_ovseg.files.check_outputs`."""
    return {"the class file": [find_class_file(classes)] if classes and classes.endswith(".json") else []}
