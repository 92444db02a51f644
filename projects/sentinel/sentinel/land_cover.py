"""The classes that the Sentinel model is tested with, and reading true land cover as them."""

from collections.abc import Mapping, Sequence

from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.raster import LabelReader
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["CLASSES", "TERRAMIND_CLASSES", "TERRAMIND_IGNORED", "find_common_name", "truth_reader"]

# Values of the labels of TerraMind's tiles -> the name to ask for.
TERRAMIND_CLASSES = {
    1: "water",
    2: "trees, forest",
    4: "crops, farmland",
    5: "buildings, city",
    6: "bare ground",
    9: "grassland, shrubs",
}
TERRAMIND_IGNORED = {0: "no data", 3: "flooded vegetation", 7: "snow", 8: "cloud"}
CLASSES = tuple(TERRAMIND_CLASSES.values())


def find_common_name(name: str, classes: Sequence[str]) -> int | None:
    """The index of the first class that shares a synonym with a name, in any case; None if no class does."""
    synonyms = {synonym.casefold() for synonym in split_synonyms(name)}
    for index, other in enumerate(classes):
        if synonyms & {synonym.casefold() for synonym in split_synonyms(other)}:
            return index
    return None


def truth_reader(names: Mapping[int, str], classes: Sequence[str], others: int = NODATA_CLASS) -> LabelReader:
    """The reader of a label map as indices into ``classes``, 255 where it says nothing about them.

    Args:
        names: Value in the file -> name of the land cover; other values say nothing.
        classes: The names asked for.
        others: What becomes of land cover that none of the classes names: 254 (none of them), or 255 (ignored).
    """
    found = {value: find_common_name(name, classes) for value, name in names.items()}
    index_of = {value: others if index is None else index for value, index in found.items()}
    return LabelReader(index_of, NODATA_CLASS)
