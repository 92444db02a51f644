"""The class names that a map holds."""

import os
import re
from collections.abc import Mapping

from mm_ovseg.decision import NONE_CLASS, NONE_NAME
from mm_ovseg.errors import VocabularyError
from mm_ovseg.raster import open_raster
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["read_class_names", "with_none"]

CLASS_TAG = re.compile(r"class_(\d{1,3})")  # of the band, as mm_ovseg.inference.map_writer writes them


def read_class_names(path: str | os.PathLike) -> dict[int, str]:
    """Value -> class name, from the tags of the band, and "none" for 254; empty for a raster without such tags.

    Raises:
        DataError: the file cannot be read.
        VocabularyError: the names are not names.
    """
    with open_raster(path) as dataset:
        tags = dataset.tags(1)
    found = {int(match[1]): name for key, name in tags.items() if (match := CLASS_TAG.fullmatch(key))}
    values = sorted(value for value in found if value < NONE_CLASS)
    if not values:
        return {}
    try:
        return with_none(dict(zip(values, validate_class_names([found[value] for value in values]), strict=True)))
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from error


def with_none(names: Mapping[int, str]) -> dict[int, str]:
    """The names with "none" for 254; unchanged if empty, or if a class has that name, whose map has no such pixels."""
    if not names or NONE_NAME in map(str.casefold, names.values()):
        return dict(names)
    return {**names, NONE_CLASS: NONE_NAME}
