"""Class maps as files: palette PNG to look at, GeoTIFF for geographic information systems."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.files import complete_file
from mm_ovseg.raster import Grid, write_geotiff

__all__ = ["NODATA_CLASS", "check_legend", "write_class_map_geotiff", "write_class_map_png"]

NODATA_CLASS = 255


def write_class_map_png(path: str | os.PathLike, class_map: np.ndarray, colors: Sequence[Sequence[int]]) -> None:
    """Write a class map as palette PNG: its values are the class indices, its palette their colours.

    Args:
        path: the file to write; missing folders are made, an existing file is replaced.
        class_map: (H, W) integers, class indices 0..T-1, or 255 for nodata (drawn transparent).
        colors: T colours (red, green, blue), 0..255 each; T <= 255.

    Raises:
        DataError: the map is not of that form, holds an index without a class, or the file cannot be written.
        VocabularyError: a colour is not three numbers in 0..255, or there are more than 255.
    """
    path = Path(path)
    palette = _check_colors(colors)
    image = Image.fromarray(_check_class_map(path, class_map, num_classes=len(palette)))  # mode "L"
    # All 256 entries, since Pillow cuts the pixel values down to the bits that a shorter palette needs.
    full_palette = np.zeros((256, 3), dtype=np.uint8)
    full_palette[: len(palette)] = palette
    image.putpalette(full_palette.tobytes())  # and now mode "P"
    with complete_file(path) as temporary:
        image.save(temporary, format="PNG", transparency=NODATA_CLASS)


def write_class_map_geotiff(
    path: str | os.PathLike,
    class_map: np.ndarray,
    *,
    crs: CRS | str | None,
    transform: Affine | None,
    class_names: Sequence[str],
    colors: Sequence[Sequence[int]],
) -> None:
    """Write a class map as tiled, compressed uint8 GeoTIFF with colour table, class names and nodata 255.

    Args:
        path: the file to write; missing folders are made, an existing file is replaced.
        class_map: (H, W) integers, class indices 0..T-1, or 255 for nodata.
        crs: coordinate reference system of the map; None where it has none.
        transform: from (column, row) to the coordinates of ``crs``; None where there is no georeference.
        class_names: T names, T <= 255; stored as the band's tags ``class_0`` ... ``class_<T-1>``.
        colors: T colours (red, green, blue), 0..255 each.

    Raises:
        DataError: the map is not of that form, holds an index without a class, or the file cannot be written.
        VocabularyError: names and colours differ in number, a colour is not three numbers in 0..255, or there are more
            than 255.
    """
    path = Path(path)
    palette = check_legend(class_names, colors)
    band = _check_class_map(path, class_map, num_classes=len(palette))
    height, width = band.shape
    write_geotiff(
        path,
        band[np.newaxis],
        Grid(width, height, None if crs is None else CRS.from_user_input(crs), transform),
        nodata=NODATA_CLASS,
        colors=dict(enumerate(palette)),
        descriptions=["land cover class"],
        band_tags={f"class_{index}": name for index, name in enumerate(class_names)},
    )


def check_legend(class_names: Sequence[str], colors: Sequence[Sequence[int]]) -> np.ndarray:
    """Check that each class has a colour; returns these, (T, 3) uint8.

    Raises:
        VocabularyError: names and colours differ in number, a colour is not three numbers in 0..255, or there are more
            than 255.
    """
    if len(class_names) != len(colors):
        raise VocabularyError(
            f"There are {len(class_names)} class names and {len(colors)} colours; give each class one colour."
        )
    return _check_colors(colors)


def _check_colors(colors: Sequence[Sequence[int]]) -> np.ndarray:
    """(T, 3) uint8."""
    if not 0 < len(colors) <= NODATA_CLASS:
        raise VocabularyError(
            f"A class map holds 1 to {NODATA_CLASS} classes, not {len(colors)}; {NODATA_CLASS} means nodata."
        )
    for index, color in enumerate(colors):
        if len(color) != 3 or not all(0 <= value <= 255 for value in color):
            raise VocabularyError(f"Colour {index} is {color}; give red, green and blue, 0 to 255 each.")
    return np.array(colors, dtype=np.uint8)


def _check_class_map(path: Path, class_map: np.ndarray, *, num_classes: int) -> np.ndarray:
    """The same map as uint8."""
    if class_map.ndim != 2 or 0 in class_map.shape or not np.issubdtype(class_map.dtype, np.integer):
        raise DataError(
            f"{path} is not written: a class map is a (height, width) array of integers, "
            f"not {class_map.dtype} of shape {class_map.shape}."
        )
    strange = (class_map < 0) | ((class_map >= num_classes) & (class_map != NODATA_CLASS))
    if strange.any():
        values = ", ".join(map(str, np.unique(class_map[strange])[:10]))
        raise DataError(
            f"{path} is not written: its map holds {values}, but the {num_classes} classes are 0 to "
            f"{num_classes - 1} and nodata is {NODATA_CLASS}; give a name and a colour to every class."
        )
    return class_map.astype(np.uint8)
