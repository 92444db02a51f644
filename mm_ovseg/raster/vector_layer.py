"""Opening one layer of a vector file: its name, its attributes, its place, and errors as one sentence."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas
from rasterio.crs import CRS
from shapely.errors import ShapelyError

from mm_ovseg.errors import DataError, brief_reason
from mm_ovseg.raster.grid import Grid
from mm_ovseg.raster.opening import NOT_RECOGNIZED
from mm_ovseg.raster.vector_drivers import local_drivers

__all__ = ["attribute_values", "check_attribute", "check_systems", "choose_layer", "reading"]

LAYERS_SHOWN = 20


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Read a vector file with the allowed drivers, turn any error into a DataError, and leave no file beside it."""
    with _data_errors(path), local_drivers(), _nothing_written_beside(path):
        yield


def choose_layer(path: str | os.PathLike, listed: np.ndarray, layer: str | None, option: str) -> str:
    """The layer of this name among those that ``pyogrio.list_layers`` lists, or the only one for None.

    Raises:
        DataError: There is no such layer, or there are several; ``option`` is what chooses one.
    """
    shapes = [name for name, kind in listed if kind is not None]  # QGIS stores its styles in a layer without geometry
    names = shapes or [name for name, _ in listed]
    shown = ", ".join(names[:LAYERS_SHOWN]) + (", ..." if len(names) > LAYERS_SHOWN else "")
    if layer is not None and layer not in names:
        raise DataError(f"{path} has no layer '{layer}'; its layers are {shown}.")
    if layer is None and len(names) > 1:
        raise DataError(f"{path} has the layers {shown}; choose one with {option}.")
    if not names:
        raise DataError(f"{path} has no layers; give another file.")
    return layer or names[0]


def check_attribute(path: str | os.PathLike, fields: Sequence[str], attribute: str, kind: str) -> None:
    """Check that a layer of polygons or points (``kind``) has an attribute.

    Raises:
        DataError: It does not.
    """
    if attribute not in fields:
        raise DataError(
            f"{path} has no attribute '{attribute}'; its attributes are {', '.join(fields)}."
            if fields
            else f"{path} has no attributes, so none is called '{attribute}'; give a file whose {kind} have values."
        )


def check_systems(path: str | os.PathLike, own: CRS | None, grid: Grid) -> None:
    """Check that a file's reference system and that of a grid are both known, or neither.

    Raises:
        DataError: Only one is.
    """
    if own is None and grid.crs is not None:
        raise DataError(
            f"{path} has no coordinate reference system, so its location is unknown; assign one (ogr2ogr -a_srs)."
        )
    if own is not None and grid.crs is None:
        raise DataError(
            f"{path} has a coordinate reference system and the scene has none, so its location in the scene is "
            "unknown; georeference the scene."
        )


def attribute_values(path: str | os.PathLike, attribute: str, column: pandas.Series) -> list[str | float | None]:
    """The values of an attribute; None where missing.

    Raises:
        DataError: One is neither text nor a number.
    """
    for value in column:
        if isinstance(value, list | tuple | dict | np.ndarray | bytes):
            raise DataError(
                f"{path}: the attribute '{attribute}' holds {value!r:.60}, neither text nor a number; choose another."
            )
    return [None if pandas.isna(value) else value for value in column.tolist()]


@contextmanager
def _data_errors(path: str | os.PathLike) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GDAL's warnings about what is repaired or skipped here
            yield
    except (RuntimeError, ValueError, OSError, ShapelyError) as error:  # all errors of pyogrio are RuntimeErrors
        reason = f" ({brief_reason(error)}); check it"
        if NOT_RECOGNIZED in str(error):
            reason = ": its format is unknown; export a GeoPackage"
        raise DataError(f"{path} cannot be read as a vector file{reason}.") from error


@contextmanager
def _nothing_written_beside(path: str | os.PathLike) -> Iterator[None]:
    """Remove the .gfs file that GDAL leaves beside a GML file that it has read."""
    description = Path(path).with_suffix(".gfs")
    before = description.exists()
    try:
        yield
    finally:
        if not before and Path(path).suffix.lower() in (".gml", ".xml"):
            description.unlink(missing_ok=True)
