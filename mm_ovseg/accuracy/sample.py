"""Drawing a sample of a class map for people to label."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mm_ovseg.accuracy.census import take_census
from mm_ovseg.accuracy.design import Design, write_design
from mm_ovseg.accuracy.population import Population
from mm_ovseg.accuracy.sampling import allocate, draw_pixels
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster.points import write_points

__all__ = ["REFERENCE_FIELD", "design_path", "sample_map"]

REFERENCE_FIELD = "reference_class"  # empty; what the interpreters fill in


def design_path(points: Path) -> Path:
    """Where the design of a sample is: beside its points."""
    return points.with_suffix(".json")


def sample_map(
    map_path: str | os.PathLike,
    output: str | os.PathLike,
    *,
    strata: str | os.PathLike | None = None,
    num_points: int | None = None,
    per_stratum: int | None = None,
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
        per_stratum: instead, points in each stratum.
        min_per_stratum: at least 2; a stratum with fewer pixels gets all of them.
        seed: at least 0; the same seed gives the same points.

    Returns:
        The names, pixels and points of the strata: ``{"strata": [{"name", "pixels", "points"}, ...]}``.

    Raises:
        ConfigError: a number is out of range, or not exactly one of ``num_points`` and ``per_stratum`` is given.
        DataError: a file cannot be read or written, or an output exists.
    """
    output = Path(output)
    if (num_points is None) == (per_stratum is None):
        raise ConfigError("Give either --n, the number of points, or --per-stratum, that of each stratum.")
    if min(min_per_stratum, 2 if per_stratum is None else per_stratum) < 2 or seed < 0:
        raise ConfigError("--per-stratum and --min-per-stratum need 2 or more, and --seed 0 or more.")
    for path in (output, design_path(output)):
        if os.path.lexists(path):  # a new sample must not replace one that people have labelled
            raise DataError(f"{path} exists, and may hold labels; choose another --output, or delete it.")
    population = Population(map_path, strata, class_names=class_names)
    census = take_census(population)
    if not len(census.values):
        raise DataError(f"{map_path} has no pixel with a class; give a map that has.")
    if per_stratum is not None:
        points = np.minimum(per_stratum, census.pixels)
    else:
        points = np.array(allocate(census.pixels.tolist(), num_points, min_per_stratum))
    by_value = np.zeros((2, 256), np.int64)
    by_value[:, census.values] = census.pixels, points
    strips = ((top, strata) for top, _, strata in population.strips())
    rows, columns, drawn = draw_pixels(strips, *by_value, seed)
    source = population.strata_path or population.map_path
    settings = {"map": population.map_path.name, "seed": seed}
    write_design(design_path(output), Design(source.name, census.sha256, rows, columns, drawn), census, settings)
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
