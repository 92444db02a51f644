"""What the values of a label raster, or of a polygons' attribute, mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import parse_yaml
from mm_ovseg.raster.label_value import value_text
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["IGNORED", "Legend", "legend_of_values", "read_legend"]

IGNORED = 255
MOST_CLASSES = 255


@dataclass(frozen=True)
class Legend:
    """From values to classes.

    Attributes:
        classes: names, in the order of their indices.
        entries: (value as :func:`~mm_ovseg.raster.label_value.value_text` writes it, class index or :data:`IGNORED`).
    """

    classes: tuple[str, ...]
    entries: tuple[tuple[str, int], ...]

    @property
    def table(self) -> dict[str, int]:
        """Value -> class index or :data:`IGNORED`."""
        return dict(self.entries)


def read_legend(path: Path, classes: Sequence[str] | None = None) -> Legend:
    """Read a file of ``value: class name`` lines (YAML or JSON); ``null`` in place of a name: no label.

    Args:
        path: the file.
        classes: the classes and their order; None for the order in which the file names them first.

    Raises:
        DataError: the file cannot be read, is no such mapping, or names a class that is not among ``classes``.
        VocabularyError: a name is empty, or two differ in case only.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({' '.join(str(error).split())}); it holds 'value: class' lines."
        ) from error
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path} holds no 'value: class' lines; write one for each value of the labels.")
    meanings = {value_text(value): name for value, name in content.items()}
    if other := [value for value, name in meanings.items() if name is not None and not isinstance(name, str)]:
        raise DataError(
            f"{path}: the value '{other[0]}' stands for {meanings[other[0]]!r}; give a class name, or null."
        )
    named = [name for name in meanings.values() if name is not None]
    classes = validate_class_names(list(dict.fromkeys(named)) if classes is None else classes)
    index_of = {name.casefold(): index for index, name in enumerate(classes)}
    for value, name in meanings.items():
        if name is not None and _folded(name) not in index_of:
            raise DataError(
                f"{path}: '{value}' stands for '{name}', which is none of the classes {', '.join(classes)}."
            )
    entries = ((value, IGNORED if name is None else index_of[_folded(name)]) for value, name in meanings.items())
    return Legend(_checked(classes), tuple(entries))


def legend_of_values(values: Iterable[str]) -> Legend:
    """Every value, but no value, is a class of that name, in alphabetical order.

    Raises:
        DataError: they are too many.
        VocabularyError: two differ in case only.
    """
    classes = _checked(validate_class_names(sorted(set(values) - {""})))
    return Legend(classes, tuple((name, index) for index, name in enumerate(classes)))


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _checked(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(classes) > MOST_CLASSES:
        raise DataError(f"There would be {len(classes)} classes; say with --label-map which values mean the same.")
    return classes
