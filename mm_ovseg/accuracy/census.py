"""What is known of a population without a sample: the size of each stratum, and where its pixels are."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mm_ovseg.accuracy.population import Population, named
from mm_ovseg.accuracy.training_area import TrainingArea
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.inference.areas import measure_strips

__all__ = ["BLOCKS_PER_SIDE", "Census", "block_of", "take_census"]

BLOCKS_PER_SIDE = 16
Index = TypeVar("Index", int, np.ndarray)


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
        DataError: a stratum has no name; see also :meth:`~mm_ovseg.accuracy.population.Population.strips`.
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
