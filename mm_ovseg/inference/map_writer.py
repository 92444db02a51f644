"""Class maps as files: PNG with a palette, GeoTIFF for geographic information systems, and styles for QGIS."""

import os
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.data.palette import NONE_COLOR, LegendEntry, class_colors, class_legend
from mm_ovseg.decision import MAX_CLASSES, NODATA_CLASS, NONE_CLASS
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.files import complete_file
from mm_ovseg.plain_data import xml_text
from mm_ovseg.raster import Grid, write_geotiff

__all__ = ["class_band", "write_class_map_geotiff", "write_class_map_png", "write_qgis_style"]

# Without a version, QGIS treats the file as older than its own 1.0 and converts it.
QGIS_VERSION = "3.16.0"
DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"


def write_class_map_png(path: str | os.PathLike, class_map: np.ndarray, colors: Sequence[Sequence[int]]) -> None:
    """Write a class map as a palette PNG: values are class indices, the palette holds their colours.

    Args:
        path: the file to write; missing folders are made, an existing file is replaced.
        class_map: (H, W) integers, class indices 0..T-1, 254 for none of them (drawn grey), or 255 for nodata (drawn
            transparent).
        colors: T colours (red, green, blue), 0..255 each; T <= 254.

    Raises:
        DataError: the map is malformed or holds an index without a class, or the file cannot be written.
        VocabularyError: a colour is not three numbers in 0..255, or there are more than 254.
    """
    _check_count(colors)
    palette = class_colors(range(len(colors)), colors, owner="The map")
    image = Image.fromarray(_check_class_map(path, class_map, num_classes=len(palette)))  # mode "L"
    # All 256 entries, since Pillow packs the pixels into fewer bits for a shorter palette.
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)], table[NONE_CLASS] = palette, NONE_COLOR
    image.putpalette(table.tobytes())  # and now mode "P"
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
    has_none: bool = False,
) -> None:
    """Write a class map as a tiled, compressed uint8 GeoTIFF with colour table, class names and nodata 255.

    Args:
        path: the file to write; missing folders are made, an existing file is replaced.
        class_map: (H, W) integers, class indices 0..T-1, 254 for none of them, or 255 for nodata.
        crs: coordinate reference system of the map, or None.
        transform: from (column, row) to the coordinates of ``crs``; None without a georeference.
        class_names: T names, T <= 254; stored as the band's tags ``class_0`` ... ``class_<T-1>``.
        colors: T colours (red, green, blue), 0..255 each.
        has_none: name and colour the value 254 even if no pixel has it.

    Raises:
        DataError: the map is malformed or holds an index without a class, or the file cannot be written.
        VocabularyError: names and colours differ in number, a colour is not three numbers in 0..255, or there are more
            than 254.
    """
    _check_count(class_names)
    legend = class_legend(class_names, colors, has_none=has_none or NONE_CLASS in class_map, owner="The map")
    band = _check_class_map(path, class_map, num_classes=len(class_names))
    height, width = band.shape
    grid = Grid(width, height, None if crs is None else CRS.from_user_input(crs), transform)
    write_geotiff(path, band[np.newaxis], grid, nodata=NODATA_CLASS, **class_band(legend))


def class_band(legend: Sequence[LegendEntry]) -> dict[str, Any]:
    """Arguments of :func:`mm_ovseg.raster.write_geotiff` for a class map: its colours and class names."""
    return {
        "colors": {entry.value: entry.color for entry in legend},
        "descriptions": ["land cover class"],
        "band_tags": {f"class_{entry.value}": entry.name for entry in legend},
    }


def write_qgis_style(path: str | os.PathLike, legend: Sequence[LegendEntry]) -> None:
    """Write a style for a class map; QGIS 3 loads map.qml with map.tif, and shows the classes by name and colour.

    Nodata and other values without a class are not drawn.

    Args:
        path: the file to write, named like the map but ending in .qml; missing folders are made, an existing file is
            replaced.
        legend: at most 254 classes, and "none".

    Raises:
        DataError: the file cannot be written.
    """
    # Only the symbology: without the categories, loading the style would also reset other properties of the layer.
    root = ElementTree.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for entry in legend:
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(entry.value),
            color="#{:02x}{:02x}{:02x}".format(*entry.color),
            label=xml_text(entry.name),
            alpha="255",
        )
    ElementTree.indent(root)
    text = f"{DOCTYPE}\n{ElementTree.tostring(root, encoding='unicode')}\n"
    with complete_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _check_count(classes: Sequence) -> None:
    if not 0 < len(classes) <= MAX_CLASSES:
        raise VocabularyError(
            f"A class map holds 1 to {MAX_CLASSES} classes, not {len(classes)}; {NONE_CLASS} means none of them and "
            f"{NODATA_CLASS} nodata."
        )


def _check_class_map(path: str | os.PathLike, class_map: np.ndarray, *, num_classes: int) -> np.ndarray:
    """The map as uint8."""
    if class_map.ndim != 2 or 0 in class_map.shape or not np.issubdtype(class_map.dtype, np.integer):
        raise DataError(
            f"{path} is not written: a class map is a (height, width) array of integers, "
            f"not {class_map.dtype} of shape {class_map.shape}."
        )
    strange = (class_map < 0) | (class_map >= num_classes) & ~np.isin(class_map, (NONE_CLASS, NODATA_CLASS))
    if strange.any():
        values = ", ".join(map(str, np.unique(class_map[strange])[:10]))
        raise DataError(
            f"{path} is not written: its map holds {values}, but the {num_classes} classes are 0 to "
            f"{num_classes - 1}, {NONE_CLASS} means none of them and {NODATA_CLASS} nodata; give a name and a colour "
            "to every class."
        )
    return class_map.astype(np.uint8)
