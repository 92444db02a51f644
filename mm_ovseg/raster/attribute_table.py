"""Raster attribute tables: what the values of a raster mean, in the file beside it where GDAL and GIS look for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mm_ovseg.files import complete_file
from mm_ovseg.plain_data import xml_text

__all__ = ["TableColumn", "table_path", "write_attribute_table"]

TYPES = {int: 0, float: 1, str: 2}  # GDAL's GDALRATFieldType
# GDAL's GDALRATFieldUsage.
USAGES = {"": 0, "count": 1, "name": 2, "value": 5, "red": 6, "green": 7, "blue": 8, "alpha": 9}


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes:
        name: Its name.
        values: One int, float or str per row; all of one type.
        usage: What GIS use it for: "value" of the pixels, "count" of pixels, "name", "red", "green", "blue", "alpha",
            or "".
    """

    name: str
    values: Sequence[int | float | str]
    usage: str = ""


def table_path(raster: Path) -> Path:
    """The file beside a raster in which GDAL keeps what the raster itself cannot hold."""
    return raster.with_name(f"{raster.name}.aux.xml")


def write_attribute_table(raster: Path, columns: Sequence[TableColumn]) -> None:
    """Write the attribute table of a raster's first band, atomically.

    Args:
        raster: The raster; ``{raster}.aux.xml`` is written, and an existing one replaced.
        columns: The columns, of equal length.

    Raises:
        DataError: The file cannot be written.
    """
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, column in enumerate(columns):
        field = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        kind = type(column.values[0]) if column.values else str
        for tag, text in (("Name", column.name), ("Type", TYPES[kind]), ("Usage", USAGES[column.usage])):
            ElementTree.SubElement(field, tag).text = str(text)
    for index, values in enumerate(zip(*(column.values for column in columns), strict=True)):
        row = ElementTree.SubElement(table, "Row", index=str(index))
        for value in values:
            ElementTree.SubElement(row, "F").text = xml_text(str(value))
    ElementTree.indent(root)
    with complete_file(table_path(raster)) as temporary:
        text = ElementTree.tostring(root, encoding="unicode") + "\n"
        temporary.write_text(text, encoding="utf-8", newline="\n")
