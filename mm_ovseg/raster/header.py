"""Headers of rasters, and whether two rasters share a grid."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio import DatasetReader

from mm_ovseg.errors import DataError
from mm_ovseg.raster.crs import same_crs
from mm_ovseg.raster.grid import SAME_PLACE, Grid, Orientation, largest_offset
from mm_ovseg.raster.opening import open_raster
from mm_ovseg.raster.remote_file import RemoteFile

__all__ = ["RasterInfo", "check_on_grid", "check_same_grid", "raster_info", "read_raster_info"]

RESAMPLE = "resample one of them to the other's grid (gdalwarp does so)"
RESAMPLE_OR_SCENE = f"{RESAMPLE}, or map them as a scene"
PLACED_OTHERWISE = {
    "gcps": ("ground control points", "put it on a grid first (gdalwarp -tps does so)", "gdal_edit -unsetgt"),
    "rpcs": ("a sensor model (RPCs)", "orthorectify it first (gdalwarp -rpc)", "gdal_edit -unsetrpc"),
}


@dataclass(frozen=True)
class RasterInfo:
    """The header of a raster.

    Attributes:
        path: The file.
        grid: Its north-up grid.
        orientation: How its stored pixels are turned onto the grid.
        count: Number of bands.
        dtypes: NumPy type name of each band.
        nodata: Nodata value of each band; None if the file declares none.
        placed_by: "transform"; "gcps" (ground control points only); "rpcs" (a sensor model only); or "" without
            georeference.
    """

    path: Path | RemoteFile
    grid: Grid
    orientation: Orientation
    count: int
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    placed_by: str

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) as stored in the file."""
        size = (self.grid.width, self.grid.height)
        return size[::-1] if self.orientation.transpose else size


def read_raster_info(path: str | os.PathLike, *, any_format: bool = False) -> RasterInfo:
    """Read a file's header.

    Raises:
        DataError: The file is missing or not a raster.
    """
    with open_raster(path, any_format=any_format) as dataset:
        return raster_info(path, dataset)


def raster_info(path: str | os.PathLike, dataset: DatasetReader) -> RasterInfo:
    """The header of an open raster; messages call it ``path``."""
    transform = None if dataset.transform.is_identity else dataset.transform
    placed_by = "transform" if transform is not None else "gcps" if dataset.gcps[0] else "rpcs" if dataset.rpcs else ""
    grid, orientation = Grid.north_up(dataset.width, dataset.height, dataset.crs, transform)
    return RasterInfo(
        path=path if isinstance(path, RemoteFile) else Path(path),
        grid=grid,
        orientation=orientation,
        count=dataset.count,
        dtypes=dataset.dtypes,
        nodata=dataset.nodatavals,
        placed_by=placed_by,
    )


def check_on_grid(info: RasterInfo) -> None:
    """Check that a raster's pixels form a grid on the ground, or that it has no georeference.

    Raises:
        DataError: It is placed by ground control points or a sensor model only, or its pixels have no extent.
    """
    if info.placed_by in PLACED_OTHERWISE:
        means, remedy, removal = PLACED_OTHERWISE[info.placed_by]
        raise DataError(
            f"{info.path} is placed by {means} only; {remedy}, or, if its pixels already match those of the other "
            f"image, remove them ({removal})."
        )
    transform = info.grid.transform
    if transform is not None and not (transform.determinant and np.isfinite((*transform, transform.determinant)).all()):
        raise DataError(
            f"{info.path} has a geotransform that maps its pixels onto a line; georeference it again (gdal_edit "
            "-a_ullr)."
        )


def check_same_grid(first: RasterInfo, second: RasterInfo, remedy: str = RESAMPLE_OR_SCENE) -> None:
    """Check that each pixel (row, column) is the same place in both files.

    Sizes must be equal. If both are georeferenced, their corners must be the same places on the ground, within half a
    pixel, however their reference systems are spelled; if only one has a reference system, both are assumed to be in
    it. A file without georeference is matched pixel for pixel.

    Args:
        first, second: The headers.
        remedy: What the message suggests.

    Raises:
        DataError: They differ, or one has no grid; the message says how, and what to do.
    """
    for info in (first, second):
        check_on_grid(info)
    grids = first.grid, second.grid
    are_placed = None not in (grids[0].transform, grids[1].transform)
    sizes = [(info.grid.width, info.grid.height) if are_placed else info.stored_size for info in (first, second)]
    if sizes[0] != sizes[1]:
        (width, height), (other_width, other_height) = sizes
        raise DataError(
            f"{first.path} is {width}x{height} pixels and {second.path} {other_width}x{other_height}; they must have "
            f"the same size: {remedy}."
        )
    if not are_placed:
        return
    offset = largest_offset(*grids, (str(first.path), str(second.path)))
    if offset <= SAME_PLACE:
        return
    without_crs = [info.path for info in (first, second) if info.grid.crs is None]
    if not without_crs and not same_crs(grids[0].crs, grids[1].crs):
        raise DataError(
            f"{first.path} is in {grids[0].crs.to_string()} and {second.path} in {grids[1].crs.to_string()}, and their "
            f"pixels are not the same places; they must have the same coordinate reference system: {remedy}."
        )
    hint = ""
    if len(without_crs) == 1:
        hint = (
            f"; {without_crs[0]} has coordinates but no coordinate reference system: give it the right one (gdal_edit "
            "-a_srs)"
        )
    apart = f"their corners are up to {offset:.1f} pixels apart" if math.isfinite(offset) else "far apart"
    raise DataError(
        f"{first.path} and {second.path} cover different places ({apart}){hint}; they must cover the same extent: "
        f"{remedy}."
    )
