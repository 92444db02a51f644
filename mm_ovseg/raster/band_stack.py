"""Writing band stacks: VRT files that join bands of several rasters, and say what their values mean."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rasterio import Affine
from rasterio.enums import ColorInterp

from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file
from mm_ovseg.raster.crs import same_crs
from mm_ovseg.raster.grid import Grid, lattice_offset
from mm_ovseg.raster.header import check_on_grid, read_raster_info

__all__ = ["StackMask", "StackedBand", "write_band_stack"]

GDAL_TYPES = {
    **{"uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32"},
    **{"float32": "Float32", "float64": "Float64"},
}


@dataclass(frozen=True, kw_only=True)
class StackedBand:
    """A band of a stack.

    Attributes:
        files: The rasters that hold it, side by side on one lattice of pixels; where they overlap, the last with data
            counts.
        index: 1-based band in each of them.
        description: Such as "B04" or "VV".
        meaning: Colour interpretation.
        scale, offset: Convert the stored values to physical ones.
        nodata: Stored value that means no data; None for no such value.
        unit: What the physical values are; see :func:`mm_ovseg.raster.units.declared_unit`.
    """

    files: tuple[Path, ...]
    index: int = 1
    description: str = ""
    meaning: ColorInterp = ColorInterp.gray
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class StackMask:
    """What says where a stack has data.

    Attributes:
        files: Rasters of 8 bits, side by side as the bands' files, with pixels of any size.
        valid: Their values that mean data.
        outside: The value of pixels about which a file says nothing; None for no such value.
    """

    files: tuple[Path, ...]
    valid: Collection[int]
    outside: int | None = None


def write_band_stack(path: Path, bands: Sequence[StackedBand], mask: StackMask | None = None) -> None:
    """Write a VRT that :func:`~mm_ovseg.raster.open_raster` and GIS open as one raster.

    A file with the same content is left as it is, so that its time of modification stays.

    Args:
        path: The file, ``.vrt``; missing folders are created.
        bands: The bands, of rasters of one reference system and size of pixels.
        mask: Where they have data, besides their nodata values; None for everywhere.

    Raises:
        DataError: A raster cannot be read, or has another reference system or lattice; or the file cannot be written.
    """
    grids = {file: _grid_of(file) for band in bands for file in band.files}
    whole = _union(grids)
    root = ElementTree.Element("VRTDataset", rasterXSize=str(whole.width), rasterYSize=str(whole.height))
    if whole.crs is not None:
        _add(root, "SRS", whole.crs.to_wkt())
    if whole.transform is not None:
        _add(root, "GeoTransform", ", ".join(repr(number) for number in whole.transform.to_gdal()))
    for number, band in enumerate(bands, start=1):
        _add_band(root, number, band, grids, whole)
    if mask is not None:
        masks = {file: _grid_of(file) for file in mask.files}
        element = ElementTree.SubElement(ElementTree.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        for file, grid in masks.items():
            table = [255 if value in mask.valid else 0 for value in range(256)]
            source = _add_source(element, "ComplexSource", file, 1, grid, whole)
            if mask.outside is not None:
                _add(source, "NODATA", str(mask.outside))
            _add(source, "LUT", ",".join(f"{value}:{shown}" for value, shown in enumerate(table)))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode") + "\n"
    if not (path.is_file() and path.read_bytes() == text.encode()):
        with complete_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def _grid_of(file: Path) -> tuple[Grid, tuple[str, ...]]:
    info = read_raster_info(file)
    check_on_grid(info)
    if info.stored_size != (info.grid.width, info.grid.height) or info.orientation != type(info.orientation)():
        raise DataError(f"{file} is not stored north-up; write it again with gdalwarp.")
    return info.grid, info.dtypes


def _union(grids: dict[Path, tuple[Grid, tuple[str, ...]]]) -> Grid:
    """The grid around all files, on the lattice of the first."""
    (first, (base, _)), *others = grids.items()
    if base.transform is None:
        return base
    left, top, right, bottom = 0, 0, base.width, base.height
    for file, (grid, _) in others:
        column, row = _offset(first, base, file, grid)
        left, top = min(left, column), min(top, row)
        right, bottom = max(right, column + grid.width), max(bottom, row + grid.height)
    return Grid(right - left, bottom - top, base.crs, base.transform @ Affine.translation(left, top))


def _offset(first: Path, base: Grid, file: Path, grid: Grid) -> tuple[int, int]:
    """(column, row) of a file's first corner on the lattice of the first file."""
    _corner(first, base, file, grid)
    offset = lattice_offset(base, grid)
    if offset is None:
        raise DataError(
            f"{first} and {file} have pixels of different sizes or places, so they cannot be joined without "
            "resampling; map them one by one, or put them on one grid with gdalwarp."
        )
    return offset


def _corner(first: Path, base: Grid, file: Path, grid: Grid) -> tuple[float, float]:
    """(column, row) of a grid's first corner on another."""
    if grid.transform is None or not same_crs(base.crs, grid.crs):
        raise DataError(
            f"{first} and {file} are in different reference systems, so they cannot be joined without resampling; map "
            "them one by one, or put them on one grid with gdalwarp."
        )
    return ~base.transform @ (grid.transform.c, grid.transform.f)


def _add_band(
    root: ElementTree.Element,
    number: int,
    band: StackedBand,
    grids: dict[Path, tuple[Grid, tuple[str, ...]]],
    whole: Grid,
) -> None:
    types = {grids[file][1][band.index - 1] for file in band.files}
    if len(types) > 1 or not types <= GDAL_TYPES.keys():
        raise DataError(
            f"{band.files[0]} and the files beside it hold {' and '.join(sorted(types))} values; give one type."
        )
    element = ElementTree.SubElement(root, "VRTRasterBand", dataType=GDAL_TYPES[types.pop()], band=str(number))
    _add(element, "Description", band.description)
    if band.nodata is not None:
        _add(element, "NoDataValue", repr(band.nodata))
    _add(element, "UnitType", band.unit)
    _add(element, "Offset", repr(band.offset))
    _add(element, "Scale", repr(band.scale))
    _add(element, "ColorInterp", band.meaning.name.capitalize())
    for file in band.files:
        kind = "SimpleSource" if band.nodata is None else "ComplexSource"
        source = _add_source(element, kind, file, band.index, grids[file], whole)
        if band.nodata is not None:
            _add(source, "NODATA", repr(band.nodata))


def _add_source(
    element: ElementTree.Element,
    kind: str,
    file: Path,
    index: int,
    placed: tuple[Grid, tuple[str, ...]],
    whole: Grid,
) -> ElementTree.Element:
    """A source, stretched to its extent in the stack, whose pixels may have another size."""
    grid, _ = placed
    source = ElementTree.SubElement(element, kind)
    ElementTree.SubElement(source, "SourceFilename", relativeToVRT="0").text = os.path.abspath(file)
    _add(source, "SourceBand", str(index))
    column, row, width, height = 0.0, 0.0, float(whole.width), float(whole.height)
    if whole.transform is not None:
        column, row = _corner(file, whole, file, grid)
        right, bottom = ~whole.transform @ (grid.transform @ (grid.width, grid.height))
        width, height = right - column, bottom - row
    ElementTree.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=str(grid.width), ySize=str(grid.height))
    # Rounded, since GDAL would take the nearest pixel of a neighbour for a place that is off by a rounding error.
    place = {"xOff": column, "yOff": row, "xSize": width, "ySize": height}
    ElementTree.SubElement(source, "DstRect", {name: repr(round(value, 6)) for name, value in place.items()})
    return source


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
