"""Accuracy and areas of a class map from labelled points."""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mm_ovseg.accuracy.checks import check_as_drawn, check_distinct, check_numbers, check_spread, check_training
from mm_ovseg.accuracy.estimators import StratifiedSample, estimate_accuracy
from mm_ovseg.accuracy.population import Census, Population, block_of, named, take_census
from mm_ovseg.accuracy.report import build_report
from mm_ovseg.accuracy.sample import REFERENCE_FIELD, read_design
from mm_ovseg.accuracy.training_area import TrainingArea
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import DataError
from mm_ovseg.inference.areas import pixel_areas
from mm_ovseg.raster.points import Points, read_points
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["assess_map"]


def assess_map(
    map_path: str | os.PathLike,
    reference: str | os.PathLike,
    *,
    design: str | os.PathLike | None = None,
    strata: str | os.PathLike | None = None,
    field: str = REFERENCE_FIELD,
    layer: str | None = None,
    training: Sequence[str | os.PathLike] = (),
    skip_unlabelled: bool = False,
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Estimate the accuracy of a class map, and the area of each class, from a sample of points with their true class.

    Args:
        map_path, class_names: see :class:`~mm_ovseg.accuracy.population.Population`; any map of the sampled place.
        reference: vector file of points, in any reference system.
        design: JSON file of the sample; None if it was not drawn by :func:`~mm_ovseg.accuracy.sample_map`, and is taken
            for a simple random sample of the pixels of each stratum.
        strata: raster of the strata that it was drawn from; None for the map.
        field: attribute with the true class: its name, one of its synonyms, "none", or its number in the map.
        layer: layer of the file; None if it has only one.
        training: rasters that the model was trained on, and folders of some.
        skip_unlabelled: whether to leave points without a class out; otherwise they are an error.

    Returns:
        See :func:`~mm_ovseg.accuracy.report.build_report`.

    Raises:
        DataError: a file cannot be read, does not fit the map, or is not a probability sample.
    """
    reference = Path(reference)
    population = Population(map_path, strata, class_names=class_names)
    grid = population.info.grid
    area = TrainingArea(grid, training) if training else None
    points = read_points(reference, grid, attribute=field, layer=layer)
    labels = _labels(reference, points, population.class_names)
    drawn = None if design is None else read_design(design)
    check_distinct(reference, points.rows, points.columns)
    labelled = labels >= 0
    unlabelled = int((~labelled).sum())
    if unlabelled and not skip_unlabelled:
        raise DataError(
            f"{reference} has {unlabelled} points of {len(labels)} without a '{field}'; label them, or leave them out "
            "with --skip-unlabelled, as if they were missing by chance."
        )
    census = take_census(population, area)
    if drawn is not None:
        source = population.strata_path or population.map_path
        check_as_drawn(reference, points.rows, points.columns, drawn, census, source)
    rows, columns, labels = points.rows[labelled], points.columns[labelled], labels[labelled]
    mapped, values = _read_map(reference, population, rows, columns)
    in_strata = np.searchsorted(census.values, values)
    check_numbers(reference, np.bincount(in_strata, minlength=len(census.values)), census)
    if drawn is None or unlabelled:  # otherwise they are known to have been drawn at random
        check_spread(reference, in_strata, block_of(rows, columns, *grid.shape), census)
    in_training = np.zeros(len(rows), bool) if area is None else area.contains(rows, columns)
    if area is not None:
        check_training(reference, in_strata, in_training, census)
    of_classes = _census_of_classes(population, census)
    classes = sorted({*of_classes, *mapped.tolist(), *labels.tolist()})
    names = named(population.map_path, classes, population.class_names)
    known = not np.isnan(census.hectares).any()
    sample = StratifiedSample(
        strata=in_strata,
        mapped=np.searchsorted(classes, mapped),
        reference=np.searchsorted(classes, labels),
        sizes=pixel_areas(population.info, rows, columns) if known else np.ones(len(rows)),
        pixels=census.pixels,
        areas=census.hectares if known else census.pixels.astype(float),
    )
    return build_report(
        estimate_accuracy(sample, len(classes)),
        names,
        mapped=[of_classes.get(value, (0, 0.0 if known else None)) for value in classes],
        sample=sample,
        census=census,
        facts={
            "map": population.map_path.name,
            "reference": reference.name,
            "design": None if design is None else Path(design).name,
            "strata_file": None if strata is None else Path(strata).name,
            "unlabelled_points": unlabelled,
            "points_in_training_area": None if area is None else int(in_training.sum()),
        },
    )


def _census_of_classes(population: Population, census: Census) -> dict[int, tuple[int, float | None]]:
    """Class index -> pixels and hectares (None if unknown) of the map, for classes that it has."""
    pixels, hectares = np.zeros(256, np.int64), np.zeros(256)
    if population.strata_path is None:
        pixels[census.values], hectares[census.values] = census.pixels, census.hectares
    else:
        pixels, hectares = population.measure_classes()
    found = np.flatnonzero(pixels[:NODATA_CLASS]).tolist()
    return {
        value: (int(pixels[value]), None if np.isnan(hectares[value]) else float(hectares[value])) for value in found
    }


def _labels(path: Path, points: Points, class_names: Mapping[int, str]) -> np.ndarray:
    """The class indices (N,) of points; -1 without a label."""
    by_name = {_key(name): value for value, name in class_names.items()}
    for value, name in class_names.items():
        for synonym in split_synonyms(name):
            by_name.setdefault(_key(synonym), value)
    labels = np.full(len(points.values), -1)
    for index, label in enumerate(points.values):
        if label is None or (isinstance(label, str) and not label.strip()):
            continue
        value = by_name.get(_key(label)) if isinstance(label, str) else label if label in class_names else None
        if value is None:
            known = ", ".join(f"'{name}'" for name in class_names.values())
            raise DataError(f"{path}: point {index + 1} has the class {label!r:.60}; the map's classes are {known}.")
        labels[index] = value
    return labels


def _key(name: str) -> str:
    return ", ".join(" ".join(unicodedata.normalize("NFC", part).split()).casefold() for part in split_synonyms(name))


def _read_map(
    path: Path, population: Population, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The classes and strata (N,) of points."""
    height, width = population.info.grid.shape
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    if outside.any():
        raise DataError(
            f"{path} has {int(outside.sum())} of {len(rows)} points outside of {population.map_path}; give the map "
            "that they belong to, or remove them."
        )
    mapped, strata = population.at(rows, columns)
    if nowhere := int((mapped == NODATA_CLASS).sum()):
        raise DataError(
            f"{path} has {nowhere} of {len(rows)} points where {population.map_path} has no class; remove them, since "
            "they belong to no stratum."
        )
    return mapped, strata
