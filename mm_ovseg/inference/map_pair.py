"""Two class maps of one place, pixel by pixel: on the grid of the first, with one list of classes."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from mm_ovseg.data.palette import NONE_COLOR, default_colors
from mm_ovseg.data.scene_source import place_raster
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS
from mm_ovseg.errors import DataError
from mm_ovseg.inference.areas import CACHE_BYTES, check_classes, read_class_map_info
from mm_ovseg.inference.class_names import read_class_names
from mm_ovseg.raster import LabelReader, Placement, RasterSource
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["MapPair", "PairClass"]

ROWS_AT_ONCE = 512  # a multiple of the blocks of mm_ovseg.inference.areas


@dataclass(frozen=True)
class PairClass:
    """A class of one map or of both.

    Attributes:
        name: its first synonym; all of them where another class of the map has that too.
        synonyms: all names of the class in both maps, in lower case.
        color: (red, green, blue), 0..255, in the later map that has it.
        in_before, in_after: whether each of the maps has it.
    """

    name: str
    synonyms: frozenset[str]
    color: tuple[int, int, int]
    in_before: bool
    in_after: bool


class MapPair:
    """Two class maps, open for reading; a context manager.

    The later map is put on the grid of the earlier one: the nearest pixel counts, or the mode if the grid's pixels are
    larger. Classes with the same first synonym are one, whatever its case.

    Args:
        before, after: uint8 rasters of class indices with the names of the classes, as this package writes them: 254
            for none of the classes, and 255 or their nodata value for no data.

    Attributes:
        info: header of the earlier map.
        classes: all classes, those of the earlier map first, "none" last.
        covered: share of the earlier map that the extent of the later one covers, 0..1.
        is_resampled: whether the later map is on another grid.

    Raises:
        DataError: a file is missing, damaged, not a uint8 raster or without class names; both are the same; or they
            cannot be put on one grid, or share no ground.
        VocabularyError: the names of a map are not names.
    """

    def __init__(self, before: str | os.PathLike, after: str | os.PathLike) -> None:
        self.before, self.after = Path(before), Path(after)
        names = [_read_names(path) for path in (self.before, self.after)]
        if os.path.samefile(before, after):
            raise DataError(f"{after} is the map before itself; give two maps.")
        self._stack = ExitStack()
        try:
            self._stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
            sources = [self._stack.enter_context(RasterSource(path)) for path in (before, after)]
            placement = place_raster(sources[1], sources[0], sources[0].grid)
            self.covered, self.is_resampled = placement.covered, not placement.is_identity
            if not self.covered:
                raise DataError(f"{after} and {before} share no ground; give two maps of one place.")
            self.info = sources[0].info
            own = Placement(sources[0].grid, sources[0].grid)
            self._readers = [_MapReader(*parts) for parts in zip(sources, (own, placement), names, strict=True)]
            colors = [_colors(source, of) for source, of in zip(sources, names, strict=True)]
        except BaseException:
            self.close()
            raise
        self.classes, self._indices = _common_classes(names, colors)

    def __enter__(self) -> "MapPair":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def place(self, other: RasterSource) -> Placement:
        """The placement of the common grid on another raster.

        Raises:
            DataError: it cannot be put on the grid.
        """
        return place_raster(other, self._readers[0].source, self.info.grid)

    def strips(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Read both maps from the first row to the last.

        Yields:
            The first row of a strip, and its classes before and after, int32 (rows, W): indices of :attr:`classes`, -1
            for no data.

        Raises:
            DataError: a block cannot be read, or holds a value without a class name.
        """
        height, width = self.info.grid.shape
        for row in range(0, height, ROWS_AT_ONCE):
            window = (row, 0, min(ROWS_AT_ONCE, height - row), width)
            before, after = (
                indices[reader.read(window)] for reader, indices in zip(self._readers, self._indices, strict=True)
            )
            yield row, before, after

    def concerns(self) -> list[str]:
        """Warnings about the maps, as sentences."""
        found = []
        if self.is_resampled:
            found.append(
                f"{self.after} is on another grid than {self.before}, on whose grid it is put; along the edges of "
                "patches, changes of about a pixel may not be real."
            )
        if self.covered < 1:
            found.append(f"{self.after} covers {self.covered:.0%} of {self.before}; the change of the rest is unknown.")
        for path, in_other in ((self.before, "in_after"), (self.after, "in_before")):
            if alone := [entry.name for entry in self.classes if not getattr(entry, in_other)]:
                found.append(
                    f"Only {path} has the {'class' if len(alone) == 1 else 'classes'} {', '.join(alone)}, so changes "
                    "from or to it may come from the names alone."
                )
        return found


@dataclass(frozen=True, eq=False)
class _MapReader:
    source: RasterSource
    placement: Placement
    names: Mapping[int, str]

    def read(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """The values, uint8 (H, W), of a window of the common grid; 255 for no data."""
        reader = LabelReader({value: value for value in (*self.names, NODATA_CLASS)}, kind="class map")
        values, unknown = reader.read_onto(self.source, self.placement, window)
        check_classes(self.source.name, sorted(unknown), ())
        return values


def _read_names(path: Path) -> dict[int, str]:
    names = read_class_names(path)
    read_class_map_info(path)
    if not names:
        raise DataError(
            f"{path} does not hold the names of its classes; give a map as mm-ovseg scene or segment wrote it."
        )
    return names


def _colors(source: RasterSource, names: Mapping[int, str]) -> dict[int, tuple[int, int, int]]:
    """Value -> colour: that of the file, or else the default."""
    table = source.color_table(1)
    if table is None:
        return {**dict(zip(names, default_colors(list(names.values())), strict=True)), NONE_CLASS: NONE_COLOR}
    return {value: NONE_COLOR if value == NONE_CLASS else table.get(value, NONE_COLOR)[:3] for value in names}


def _common_classes(
    names: list[dict[int, str]], colors: list[dict[int, tuple[int, int, int]]]
) -> tuple[tuple[PairClass, ...], list[np.ndarray]]:
    """The classes of two maps, and for each map their indices, int32 (256,), by value; -1 without a class."""
    keys = [_keys(of_map) for of_map in names]
    order = dict.fromkeys([key for of_map in keys for value, key in of_map.items() if value != NONE_CLASS])
    order |= dict.fromkeys([key for of_map in keys for value, key in of_map.items() if value == NONE_CLASS])
    value_of = [{key: value for value, key in of_map.items()} for of_map in keys]
    classes = []
    for key in order:
        where = [map_index for map_index in (0, 1) if key in value_of[map_index]]
        found = [(names[index][value_of[index][key]], colors[index][value_of[index][key]]) for index in where]
        synonyms = {synonym.casefold() for name, _ in found for synonym in split_synonyms(name)}
        first = split_synonyms(found[0][0])
        name = first[0] if key == first[0].casefold() else " / ".join(first)
        classes.append(PairClass(name, frozenset(synonyms), found[-1][1], 0 in where, 1 in where))
    places = {key: index for index, key in enumerate(order)}
    indices = [np.full(256, -1, np.int32), np.full(256, -1, np.int32)]
    for table, of_map in zip(indices, keys, strict=True):
        for value, key in of_map.items():
            table[value] = places[key]
    return tuple(classes), indices


def _keys(names: Mapping[int, str]) -> dict[int, str]:
    """Value -> what its class is known by: its first synonym, or all of them where classes share that."""
    synonyms = {value: [synonym.casefold() for synonym in split_synonyms(name)] for value, name in names.items()}
    shared = Counter(first for first, *_ in synonyms.values())
    return {value: all_[0] if shared[all_[0]] == 1 else ", ".join(all_) for value, all_ in synonyms.items()}
