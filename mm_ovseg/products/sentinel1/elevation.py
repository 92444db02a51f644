"""Elevation models: their heights on another grid, and what these heights refer to."""

import math
import warnings

import numpy as np
from pyproj import CRS as ProjCRS
from pyproj import Transformer
from pyproj.crs import CompoundCRS
from pyproj.exceptions import CRSError, ProjError
from pyproj.transformer import TransformerGroup
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, Placement, RasterSource
from mm_ovseg.raster.footprint import footprints, overlaps
from mm_ovseg.raster.resampling import resample_image

__all__ = ["MAX_HEIGHT", "MIN_HEIGHT", "Elevation"]

ELLIPSOIDAL, GEOCENTRIC = "EPSG:4979", "EPSG:4978"
MIN_HEIGHT, MAX_HEIGHT = -600.0, 9200.0  # metres; all land of the Earth lies between them


class Elevation:
    """An elevation model on a grid.

    Args:
        source: The model, one band of heights in metres.
        target: The grid.
        name: Name of the grid's image, for messages.

    Attributes:
        name: The model's name.
        to_earth: Longitudes, latitudes and heights of the model -> geocentric coordinates.
        is_declared: Whether the model says what its heights refer to; otherwise they count from the ellipsoid WGS 84.

    Raises:
        DataError: The model has several bands, no reference system, heights that cannot be related to the ellipsoid, or
            no place in common with the grid.
    """

    def __init__(self, source: RasterSource, target: Grid, name: str) -> None:
        self.name, self._source = source.name, source
        if len(source.data_bands()) != 1:
            raise DataError(f"{self.name} has several bands; give an elevation model, with heights in metres.")
        if source.grid.crs is None or source.grid.transform is None:
            raise DataError(
                f"{self.name} has no coordinate reference system; give it the right one (gdal_edit -a_srs)."
            )
        own, wanted = footprints([source.grid, target])
        if not len(overlaps([own], [wanted])):
            raise DataError(f"{self.name} covers no part of {name}; give an elevation model that does.")
        self.to_earth, self.is_declared = _to_earth(source.grid.crs, self.name)
        self._placement = Placement(source.grid, target, names=(self.name, name))

    def heights(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """The heights, float32 (height, width), of a window of the grid; NaN where the model has none."""
        values, valid = resample_image(self._read, self._placement, row, column, height, width)
        heights = values[..., 0]
        heights[~valid | (heights < MIN_HEIGHT) | (heights > MAX_HEIGHT)] = math.nan
        return heights

    def _read(self, *window: int) -> tuple[np.ndarray, np.ndarray]:
        bands = self._source.data_bands()
        values, valid = self._source.read(bands, window, "float32")
        self._source.scale(values, bands)
        return values, np.ones(values.shape[:2], bool) if valid is None else valid[..., 0]


def _to_earth(crs: CRS, name: str) -> tuple[Transformer, bool]:
    try:
        system = ProjCRS.from_wkt(crs.to_wkt(version="WKT2_2019"))
        vertical = system.sub_crs_list[1] if system.is_compound else None
        axis = (vertical or system).axis_info[-1]
        if vertical is None and len(system.axis_info) < 3:
            return Transformer.from_crs(ELLIPSOIDAL, GEOCENTRIC, always_xy=True), False
        if axis.unit_conversion_factor != 1:
            raise DataError(f"{name} has heights in {axis.unit_name}; convert them to metres.")
        if vertical is None:
            return Transformer.from_crs(ELLIPSOIDAL, GEOCENTRIC, always_xy=True), True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a missing grid, which is an error here
            own = CompoundCRS("heights", ["EPSG:4326", vertical])
            group = TransformerGroup(own, GEOCENTRIC, always_xy=True)
    except (CRSError, ProjError) as error:
        raise DataError(
            f"{name} has a coordinate reference system whose heights cannot be related to the ellipsoid; convert it to "
            "EPSG:4979 with gdalwarp."
        ) from error
    if not group.best_available or not group.transformers:
        grids = [grid.short_name for operation in group.unavailable_operations for grid in operation.grids]
        remedy = f"run: pyproj sync --file {grids[0].rpartition('.')[0]}, or " if grids else ""
        raise DataError(
            f"{name} has heights in {vertical.name}, but PROJ has no grid to convert them to heights above the "
            f"ellipsoid; {remedy}convert it to EPSG:4979 with gdalwarp."
        )
    return group.transformers[0], True
