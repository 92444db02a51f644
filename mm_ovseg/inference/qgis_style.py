"""QGIS styles: beside map.tif, QGIS 3 loads map.qml by itself and shows the classes by name and colour."""

import os
import re
from collections.abc import Sequence
from xml.etree import ElementTree

from mm_ovseg.files import complete_file
from mm_ovseg.inference.map_writer import check_legend

__all__ = ["write_qgis_style"]

# Without a version, QGIS treats the file as older than its own 1.0 and converts it.
QGIS_VERSION = "3.16.0"
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_qgis_style(path: str | os.PathLike, class_names: Sequence[str], colors: Sequence[Sequence[int]]) -> None:
    """Write a style for a class map; nodata and other values without a class are not drawn.

    Args:
        path: the file to write, named as the map but ending in .qml; missing folders are made, an existing file is
            replaced.
        class_names: T names, T <= 255.
        colors: T colours (red, green, blue), 0..255 each.

    Raises:
        DataError: the file cannot be written.
        VocabularyError: names and colours differ in number, a colour is not three numbers in 0..255, or there are more
            than 255.
    """
    check_legend(class_names, colors)
    # Only what is drawn: without the categories, loading the style would reset the layer's other properties too.
    root = ElementTree.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for index, (name, color) in enumerate(zip(class_names, colors, strict=True)):
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(index),
            color="#{:02x}{:02x}{:02x}".format(*map(int, color)),
            label=NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", name),
            alpha="255",
        )
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    with complete_file(path) as temporary:
        temporary.write_text(
            f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}\n", encoding="utf-8", newline="\n"
        )
