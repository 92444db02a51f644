"""Raster and vector I/O: the only package that opens or writes rasters and vector files.

A :class:`RasterSource` is an open raster: bands, validity, and a north-up :class:`Grid`. A :class:`Placement` maps
the pixels of one grid to another; :class:`RGBReader`, :class:`SARReader` and :class:`LabelReader` read a
source on its own grid or on another.
"""

from mm_ovseg.raster.band import Band
from mm_ovseg.raster.band_stack import StackedBand, StackMask, write_band_stack
from mm_ovseg.raster.geotiff import write_geotiff
from mm_ovseg.raster.grid import Grid, check_sampling_distance
from mm_ovseg.raster.header import RasterInfo, check_same_grid, raster_info, read_raster_info
from mm_ovseg.raster.image_reader import ImageReader
from mm_ovseg.raster.labels import LabelReader, read_label
from mm_ovseg.raster.opening import open_raster
from mm_ovseg.raster.placement import Placement
from mm_ovseg.raster.rgb import RGBReader, read_rgb
from mm_ovseg.raster.sar import SARReader, count_polarisations, read_sar, three_channels
from mm_ovseg.raster.source import Paths, RasterSource, path_list
from mm_ovseg.raster.units import SAR_UNITS, SARUnit, sar_unit

__all__ = [
    "SAR_UNITS",
    "Band",
    "Grid",
    "ImageReader",
    "LabelReader",
    "Paths",
    "Placement",
    "RGBReader",
    "RasterInfo",
    "RasterSource",
    "SARReader",
    "SARUnit",
    "StackMask",
    "StackedBand",
    "check_same_grid",
    "check_sampling_distance",
    "count_polarisations",
    "open_raster",
    "path_list",
    "raster_info",
    "read_label",
    "read_raster_info",
    "read_rgb",
    "read_sar",
    "sar_unit",
    "three_channels",
    "write_band_stack",
    "write_geotiff",
]
