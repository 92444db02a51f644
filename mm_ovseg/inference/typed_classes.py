"""Class names given on a command line, and how their scores become a map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mm_ovseg.data.builtin import find_class_file
from mm_ovseg.data.palette import class_colors
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.decision import Decision
from mm_ovseg.errors import ConfigError, VocabularyError
from mm_ovseg.vocabulary import find_class, parse_class_names, select_unseen, validate_class_names

__all__ = ["Vocabulary", "read_decision_options", "read_vocabulary", "vocabulary_inputs"]


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


def read_decision_options(classes: Sequence[str], background: str | None, min_score: str | None) -> dict[str, Any]:
    """Read typed options of a :class:`~mm_ovseg.decision.Decision` about the classes, and check them.

    Args:
        classes: their names.
        background: ``"bare ground, something else"``, spelled like ``--classes``; ``""``: nothing.
        min_score: ``"0.4"``, or by class ``"water=0.3; road=0.2"``, where the first of several synonyms is enough.

    Returns:
        The keyword arguments ``background`` and ``min_score``.

    Raises:
        ConfigError: ``min_score`` is malformed, or not within 0..1.
        VocabularyError: a name is empty, repeated, or, in ``min_score``, not among the classes.
    """
    names = background
    if background is not None:
        names = parse_class_names(background) if background.strip() else ()
    minimums = None if min_score is None else _read_min_score(min_score, classes)
    options = {"background": names, "min_score": minimums}
    Decision(classes, **options)
    return options


def _read_min_score(text: str, classes: Sequence[str]) -> float | dict[str, float]:
    minimums: dict[str, float] = {}
    try:
        if "=" not in text:
            return float(text)
        for part in text.strip().removesuffix(";").split(";"):
            name, _, number = part.rpartition("=")
            index = find_class(name, classes)
            if index is None:
                raise VocabularyError(
                    f"--min-score names '{name.strip()}', but the classes are {'; '.join(classes)}; write "
                    '"water=0.3; road=0.2".'
                )
            if classes[index] in minimums:
                raise VocabularyError(f"--min-score names '{name.strip()}' twice; give one number.")
            minimums[classes[index]] = float(number)
    except ValueError as error:
        raise ConfigError(
            f"--min-score is '{text}'; give a number from 0 to 1, or one by class: \"water=0.3; road=0.2\"."
        ) from error
    return minimums


def vocabulary_inputs(classes: str | None) -> dict[str, list[Path]]:
    """The class file, if ``classes`` names one, for :func:`mm_ovseg.files.check_outputs`."""
    return {"the class file": [find_class_file(classes)] if classes and classes.endswith(".json") else []}
