"""Drawing a sample of a class map for people to label, and how it was drawn, so that it can be checked."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mm_ovseg.accuracy.population import Census, Population, take_census
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import complete_file
from mm_ovseg.plain_data import parse_json, read_text
from mm_ovseg.randomness import derived_seed
from mm_ovseg.raster.points import write_points

__all__ = ["REFERENCE_FIELD", "Design", "allocate", "design_path", "draw_pixels", "read_design", "sample_map"]

REFERENCE_FIELD = "reference_class"  # empty; what the interpreters fill in
KIND = "stratified random sample of the pixels of a class map"


@dataclass(frozen=True, eq=False)
class Design:
    """A stratified random sample; point i of the points file has the id i + 1.

    Attributes:
        strata_file: name of the raster whose values are the strata.
        sha256: see :class:`~mm_ovseg.accuracy.population.Census`.
        rows, columns: (N,) int64, the pixels.
        strata: (N,) int64, their values in the raster of strata.
    """

    strata_file: str
    sha256: str
    rows: np.ndarray
    columns: np.ndarray
    strata: np.ndarray


def design_path(points: Path) -> Path:
    """Where the design of a sample is: beside its points."""
    return points.with_suffix(".json")


def sample_map(
    map_path: str | os.PathLike,
    output: str | os.PathLike,
    *,
    strata: str | os.PathLike | None = None,
    num_points: int,
    min_per_stratum: int = 50,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Draw a stratified random sample of the pixels of a class map, and write it for people to label.

    The points are in random order and tell neither class nor stratum, so that nobody who labels them is led by the map.

    Args:
        map_path, strata, class_names: see :class:`~mm_ovseg.accuracy.population.Population`.
        output: the GeoPackage to write, with the empty field ``reference_class``; the design is written to a JSON file
            beside it. Neither may exist.
        num_points: points in all, in proportion to the strata's sizes, but at least ``min_per_stratum`` in each.
        min_per_stratum: at least 2; a stratum with fewer pixels gets all of them.
        seed: at least 0; the same seed gives the same points.

    Returns:
        The names, pixels and points of the strata: ``{"strata": [{"name", "pixels", "points"}, ...]}``.

    Raises:
        ConfigError: a number is out of range.
        DataError: a file cannot be read or written, or an output exists.
    """
    output = Path(output)
    if min_per_stratum < 2 or seed < 0:
        raise ConfigError("--min-per-stratum needs 2 or more, and --seed 0 or more.")
    for path in (output, design_path(output)):
        if os.path.lexists(path):  # a new sample must not replace one that people have labelled
            raise DataError(f"{path} exists, and may hold labels; choose another --output, or delete it.")
    population = Population(map_path, strata, class_names=class_names)
    census = take_census(population)
    if not len(census.values):
        raise DataError(f"{map_path} has no pixel with a class; give a map that has.")
    points = np.array(allocate(census.pixels.tolist(), num_points, min_per_stratum))
    by_value = np.zeros((2, 256), np.int64)
    by_value[:, census.values] = census.pixels, points
    strips = ((top, strata) for top, _, strata in population.strips())
    rows, columns, drawn = draw_pixels(strips, *by_value, seed)
    source = population.strata_path or population.map_path
    settings = {"map": population.map_path.name, "seed": seed}
    _write_design(design_path(output), Design(source.name, census.sha256, rows, columns, drawn), census, settings)
    attributes = {"id": np.arange(1, len(rows) + 1), REFERENCE_FIELD: np.full(len(rows), None, dtype=object)}
    try:
        write_points(output, output.stem, population.info.grid, rows, columns, attributes)
    except BaseException:
        design_path(output).unlink()  # alone it is of no use, and would stop the next try
        raise
    return {
        "strata": [
            {"name": name, "pixels": int(pixels), "points": int(count)}
            for name, pixels, count in zip(census.names, census.pixels, points, strict=True)
        ]
    }


def allocate(pixels: Sequence[int], total: int, minimum: int) -> list[int]:
    """Share points among strata in proportion to their pixels, but with a minimum for rare ones.

    As Olofsson et al. 2014 advise (5.1.2): rare strata get the minimum, and the others share the rest. No stratum gets
    more points than it has pixels.

    Args:
        pixels: pixels of each stratum, at least 1.
        total: number of points.
        minimum: the minimum of a stratum.

    Returns:
        Points of each stratum; they sum up to ``total``.

    Raises:
        ConfigError: there are too few points for the minimum, or more than pixels.
    """
    sizes = np.asarray(pixels, dtype=np.int64)
    minimums = np.minimum(minimum, sizes)
    if not minimums.sum() <= total <= sizes.sum():
        raise ConfigError(
            f"--n is {total}, but {minimum} points in each of {len(sizes)} strata are {minimums.sum()}, and the map "
            f"has {sizes.sum()} pixels; give a number between, or a smaller --min-per-stratum."
        )
    at_minimum = np.zeros(len(sizes), dtype=bool)
    while True:  # in whole numbers, since what is exactly the minimum must not be less
        rest = total - int(minimums[at_minimum].sum())
        others = int(sizes[~at_minimum].sum())
        too_few = ~at_minimum & (rest * sizes < minimums * others)
        if not too_few.any():
            break
        at_minimum |= too_few
    points = np.where(at_minimum, minimums, rest * sizes // max(others, 1))
    remainders = np.where(at_minimum, -1, rest * sizes % max(others, 1))
    points[np.argsort(-remainders, kind="stable")[: total - points.sum()]] += 1
    return points.tolist()


def draw_pixels(
    strips: Iterable[tuple[int, np.ndarray]], pixels: Sequence[int], points: Sequence[int], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw pixels of each stratum at random, without replacement.

    Args:
        strips: the first row of each strip of a raster, and its strata, uint8 (rows, W). How the raster is cut into
            strips does not matter.
        pixels: number of pixels of each value 0..254 in the raster.
        points: number of points of each value.
        seed: the same seed gives the same pixels.

    Returns:
        Rows, columns, and strata (N,), int64, in random order, which tells nothing of the strata.
    """
    ranks = {}  # of the pixels of a stratum in reading order
    for value in np.flatnonzero(points).tolist():
        generator = np.random.default_rng(derived_seed(seed, "sample", value))
        ranks[value] = np.sort(generator.choice(int(pixels[value]), int(points[value]), replace=False))
    seen = np.zeros(NODATA_CLASS, np.int64)
    found = []
    for top, strata in strips:
        counts = np.bincount(strata.ravel(), minlength=NODATA_CLASS)[:NODATA_CLASS]
        for value, of_value in ranks.items():
            first, last = np.searchsorted(of_value, (seen[value], seen[value] + counts[value]))
            if first < last:
                places = np.flatnonzero(strata.ravel() == value)[of_value[first:last] - seen[value]]
                rows, columns = np.divmod(places, strata.shape[1])
                found.append(np.stack([rows + top, columns, np.full(len(places), value)]))
        seen += counts
    rows, columns, strata = np.concatenate(found, axis=1)
    # From one order, however the raster was cut.
    order = np.lexsort((columns, rows))[np.random.default_rng(derived_seed(seed, "order")).permutation(len(rows))]
    return rows[order], columns[order], strata[order]


def _write_design(path: Path, design: Design, census: Census, settings: Mapping[str, Any]) -> None:
    """Write a design as JSON.

    Args:
        path: the file; an existing one is replaced.
        design: what to write.
        census: the population, of which the sizes of the strata are written.
        settings: how the sample was drawn, for readers of the file.

    Raises:
        DataError: the file cannot be written.
    """
    points = np.bincount(design.strata, minlength=256)
    strata = [
        {"value": int(value), "name": name, "pixels": int(pixels), "points": int(points[value])}
        for value, name, pixels in zip(census.values, census.names, census.pixels, strict=True)
    ]
    places = np.stack([np.arange(1, len(design.rows) + 1), design.rows, design.columns, design.strata], axis=1)
    content = {
        "kind": KIND,
        **settings,
        "strata_file": design.strata_file,
        "strata_sha256": design.sha256,
        "strata": strata,
        "columns_of_points": ["id", "row", "column", "stratum"],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    rows = ",\n  ".join(map(json.dumps, places.tolist()))
    with complete_file(path) as temporary:
        temporary.write_text(f'{text[:-2]},\n "points": [\n  {rows}\n ]\n}}\n', encoding="utf-8")


def read_design(path: str | os.PathLike) -> Design:
    """Read what :func:`sample_map` wrote.

    Raises:
        DataError: the file is missing or something else.
    """
    text = read_text(path)
    try:
        content = parse_json(text)
        places = np.array(content["points"])
        if content["kind"] != KIND or places.dtype.kind != "i" or places.ndim != 2 or places.shape[1] != 4:
            raise ValueError("it holds no points")
        _, rows, columns, strata = places.T
        return Design(str(content["strata_file"]), str(content["strata_sha256"]), rows, columns, strata)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(
            f"{path} is not the design of a sample; give the JSON file that mm-ovseg sample wrote beside the points."
        ) from error
