"""The pixels that a sample is drawn from: those of a class map that have a class, each in one stratum.

What is known of them without a sample, the sizes and places of the strata, is their census.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from mm_ovseg.accuracy.training_area import TrainingArea
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import DataError
from mm_ovseg.inference.areas import measure_strips
from mm_ovseg.inference.class_names import read_class_names, with_none
from mm_ovseg.raster import RasterSource, read_raster_info
from mm_ovseg.raster.header import RESAMPLE

__all__ = ["BLOCKS_PER_SIDE", "Census", "Population", "block_of", "named", "take_census"]

BLOCKS_PER_SIDE = 16
Index = TypeVar("Index", int, np.ndarray)


class Population:
    """The pixels of a class map that have a class, and their strata: the map's own classes, or those of another raster.

    Args:
        map_path: uint8 raster of class indices, 254 for none of the classes, and 255 or its nodata value for no data.
        strata_path: uint8 raster on the same grid; None for the map's classes.
        class_names: names of the classes 0, 1, ...; empty for those that the map holds.

    Attributes:
        info: header of the map.
        class_names: class index -> name, among them "none" for 254.
        stratum_names: the same for the strata; of a raster without names, "stratum 3".

    Raises:
        DataError: a file is missing, not a uint8 raster, not georeferenced or on another grid, or the map has no names.
        VocabularyError: the map's names are not names.
    """

    def __init__(
        self,
        map_path: str | os.PathLike,
        strata_path: str | os.PathLike | None = None,
        *,
        class_names: Sequence[str] = (),
    ) -> None:
        self.map_path = Path(map_path)
        self.strata_path = None if strata_path is None else Path(strata_path)
        self.info = read_raster_info(map_path)
        for path in filter(None, (self.map_path, self.strata_path)):
            dtype = read_raster_info(path).dtypes[0]
            if dtype != "uint8":
                raise DataError(f"{path} holds {dtype}, but classes and strata are uint8; convert it (gdal_translate).")
        if self.info.grid.transform is None:
            raise DataError(f"{map_path} is not georeferenced, so nobody could find its points; georeference it.")
        self.class_names = with_none(dict(enumerate(class_names))) or read_class_names(self.map_path)
        if not self.class_names:
            raise DataError(f"{map_path} does not hold the names of its classes; give them with --classes.")
        self.stratum_names = self.class_names
        if self.strata_path is not None:
            unnamed = {value: f"stratum {value}" for value in range(NODATA_CLASS)}
            self.stratum_names = unnamed | read_class_names(self.strata_path)

    def strips(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Read the map from the first row to the last.

        Yields:
            The first row of a strip, its classes, and its strata, uint8 (rows, W); in both, 255 is no data.

        Raises:
            DataError: a block cannot be read, or a pixel with a class has no stratum.
        """
        with ExitStack() as stack:
            source = stack.enter_context(RasterSource(self.map_path))
            if self.strata_path is None:
                yield from ((top, classes, classes) for top, classes in _strips(source))
                return
            other = stack.enter_context(RasterSource(self.strata_path))
            source.align(other, RESAMPLE)
            for (top, classes), (_, strata) in zip(_strips(source), _strips(other), strict=True):
                without = int(((strata == NODATA_CLASS) & (classes != NODATA_CLASS)).sum())
                if without:
                    raise DataError(
                        f"{self.strata_path} has no stratum for {without} pixels of {self.map_path} from row {top} on; "
                        "each pixel with a class needs one: fill it, or cut the map."
                    )
                yield top, classes, np.where(classes == NODATA_CLASS, np.uint8(NODATA_CLASS), strata)

    def at(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The classes and strata, uint8 (N,), of pixels (N,) on the grid."""
        found = np.empty((2, len(rows)), np.uint8)
        for top, *layers in self.strips():
            here = (rows >= top) & (rows < top + len(layers[0]))
            for result, layer in zip(found, layers, strict=True):
                result[here] = layer[rows[here] - top, columns[here]]
        return found[0], found[1]

    def measure_classes(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (256,) and hectares (256,), NaN if unknown, of the map's classes."""
        return measure_strips(self.info, ((top, classes) for top, classes, _ in self.strips()))


def named(path: Path, values: Iterable[int], names: Mapping[int, str]) -> list[str]:
    """The names of classes or strata.

    Raises:
        DataError: one has none.
    """
    values = [int(value) for value in values]
    if strange := [value for value in values if value not in names]:
        raise DataError(
            f"{path} holds the values {', '.join(map(str, strange[:10]))}, for which it has no class names; give the "
            "map as it was written, or all names with --classes."
        )
    return [names[value] for value in values]


@dataclass(frozen=True, eq=False)
class Census:
    """The strata of a population that have pixels.

    Attributes:
        values: (H,) uint8, their values in the raster, ascending.
        names: their names.
        pixels: (H,) int64.
        hectares: (H,) float, NaN if unknown.
        blocks: (H, B) int64, their pixels in each block of the map; see :func:`block_of`.
        in_training: (H,) int64, their pixels in the training area.
        sha256: hash of the strata of all pixels.
    """

    values: np.ndarray
    names: list[str]
    pixels: np.ndarray
    hectares: np.ndarray
    blocks: np.ndarray
    in_training: np.ndarray
    sha256: str


def take_census(population: Population, training: TrainingArea | None = None) -> Census:
    """Read a population once, strip by strip.

    Raises:
        DataError: a stratum has no name; see also :meth:`Population.strips`.
    """
    height, width = population.info.grid.shape
    digest = hashlib.sha256()
    blocks = np.zeros((BLOCKS_PER_SIDE**2, 256), np.int64)
    in_training = np.zeros(256, np.int64)

    def strips() -> Iterator[tuple[int, np.ndarray]]:
        for top, _, strata in population.strips():
            digest.update(np.ascontiguousarray(strata))
            for row, column, part in _pieces(strata, top, height, width):
                blocks[block_of(row, column, height, width)] += np.bincount(part.ravel(), minlength=256)
            if training is not None:
                in_training[:] += np.bincount(strata[training.mask(top, *strata.shape)], minlength=256)
            yield top, strata

    pixels, hectares = measure_strips(population.info, strips())
    values = np.flatnonzero(pixels[:NODATA_CLASS])
    return Census(
        values=values.astype(np.uint8),
        names=named(population.strata_path or population.map_path, values, population.stratum_names),
        pixels=pixels[values],
        hectares=hectares[values],
        blocks=blocks[:, values].T,
        in_training=in_training[values],
        sha256=digest.hexdigest(),
    )


def block_of(rows: Index, columns: Index, height: int, width: int) -> Index:
    """The blocks (N,) of pixels (N,): 16 x 16 over the map, row by row."""
    return rows // _side(height) * BLOCKS_PER_SIDE + columns // _side(width)


def _strips(source: RasterSource) -> Iterator[tuple[int, np.ndarray]]:
    """Strips of the first band with 255 where the file declares no data."""
    for top, rows in source.strips(1):
        missing = source.is_nodata(rows[..., np.newaxis], [1])
        yield top, rows if missing is None else np.where(missing[..., 0], np.uint8(NODATA_CLASS), rows)


def _pieces(strata: np.ndarray, top: int, height: int, width: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Parts of a strip that are each in one block, with their first row and column in the map."""
    tall, wide = _side(height), _side(width)
    bottom = top + len(strata)
    for first in range(top // tall * tall, bottom, tall):
        rows = strata[max(first - top, 0) : first + tall - top]
        for column in range(0, width, wide):
            yield max(first, top), column, rows[:, column : column + wide]


def _side(length: int) -> int:
    return -(-length // BLOCKS_PER_SIDE)
