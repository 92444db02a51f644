"""How a sample was drawn, stored beside its points so that what comes back can be checked against it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mm_ovseg.accuracy.census import Census
from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file
from mm_ovseg.plain_data import parse_json, read_text

__all__ = ["Design", "read_design", "write_design"]

KIND = "stratified random sample of the pixels of a class map"


@dataclass(frozen=True, eq=False)
class Design:
    """A stratified random sample; point i of the points file has the id i + 1.

    Attributes:
        strata_file: name of the raster whose values are the strata.
        sha256: see :class:`~mm_ovseg.accuracy.census.Census`.
        rows, columns: (N,) int64, the pixels.
        strata: (N,) int64, their values in the raster of strata.
    """

    strata_file: str
    sha256: str
    rows: np.ndarray
    columns: np.ndarray
    strata: np.ndarray


def write_design(path: Path, design: Design, census: Census, settings: Mapping[str, Any]) -> None:
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
    """Read what :func:`write_design` wrote.

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
