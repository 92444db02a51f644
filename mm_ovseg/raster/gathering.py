"""Bands of rasters, local or on the web, as local files on one lattice of pixels, within an area."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.enums import ColorInterp

from mm_ovseg.errors import DataError
from mm_ovseg.raster.band_stack import StackedBand
from mm_ovseg.raster.geotiff import write_geotiff
from mm_ovseg.raster.grid import Grid, lattice_offset
from mm_ovseg.raster.placement import Placement
from mm_ovseg.raster.remote_file import RemoteFile
from mm_ovseg.raster.resampling import nearest_pixels, resample_image
from mm_ovseg.raster.shared_lattice import SharedLattice
from mm_ovseg.raster.source import RasterSource
from mm_ovseg.raster.units import SAR_UNITS, declared_unit

__all__ = ["BandSource", "gather_band"]

ROWS_AT_ONCE = 512  # a multiple of the tile height of our GeoTIFFs


@dataclass(frozen=True, kw_only=True)
class BandSource:
    """A band to gather.

    Attributes:
        raster: The file.
        name: Of the local file, without suffix.
        index: 1-based band in it.
        scale, offset, nodata, unit: As of a :class:`~mm_ovseg.raster.StackedBand`; a nodata value of None, or one that
            cannot occur, is that of the file.
    """

    raster: Path | RemoteFile
    name: str
    index: int = 1
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class _Form:
    """How values are stored; scale, offset, nodata and unit as of a StackedBand."""

    dtype: str
    scale: float
    offset: float
    nodata: float | None
    unit: str

    def options(self) -> dict:
        return {"scale": self.scale, "offset": self.offset, "nodata": self.nodata, "unit": self.unit}


def gather_band(
    sources: Sequence[BandSource],
    folder: Path,
    *,
    area: Path | None = None,
    area_layer: str | None = None,
    categorical: bool = False,
    description: str = "",
    meaning: ColorInterp = ColorInterp.gray,
) -> StackedBand:
    """Gather a band of several rasters, such as neighbouring tiles.

    The lattice is that of the rasters that hold most of the area. If all are on it and store their values in one form,
    local files are used as they are, and of others the window around the area is copied. Otherwise all become float32
    in physical units, SAR as power, NaN where they have no data; those on other lattices are resampled, bilinear or
    averaged. Files are read in strips.

    Args:
        sources: The band in each raster; where they overlap, the last with data counts.
        folder: Where local files are written.
        area, area_layer: Vector file and layer; None for everything, or if it has only one.
        categorical: Whether values are classes or flags, which keep their form, and of which the nearest counts.
        description, meaning: Of the result.

    Raises:
        DataError: A raster or the area cannot be read, no raster holds any of the area, or they cannot be joined.
    """
    with ExitStack() as stack:
        rasters = [stack.enter_context(RasterSource(source.raster)) for source in sources]
        forms = [_form(source, raster) for source, raster in zip(sources, rasters, strict=True)]
        is_one_form = len({repr(form) for form in forms}) == 1  # as text, since NaN does not equal itself
        has_masks = not categorical and any(raster.has_masks for raster in rasters)
        are_local = all(isinstance(source.raster, Path) for source in sources)
        common = {"description": description, "meaning": meaning}
        if are_local and len(sources) == 1 and not has_masks:  # it may have no place on the ground
            files = (sources[0].raster,)
            return StackedBand(files=files, index=sources[0].index, **common, **forms[0].options())
        if unplaced := [raster.name for raster in rasters if raster.grid.transform is None]:
            raise DataError(f"{unplaced[0]} has no georeference, so its window cannot be found; georeference it.")
        lattice = SharedLattice([raster.grid for raster in rasters], area, area_layer)
        is_stored = categorical or (is_one_form and lattice.is_of_all and not has_masks)
        if categorical and not is_one_form:
            raise DataError(f"{rasters[0].name} and the files of other items store classes differently; map one alone.")
        if is_stored and lattice.is_of_all and are_local and len({source.index for source in sources}) == 1:
            files = tuple(source.raster for source in sources)
            return StackedBand(files=files, index=sources[0].index, **common, **forms[0].options())
        form = forms[0] if is_stored else _physical_form(sources)
        files = []
        for source, raster, part in zip(sources, rasters, lattice.parts(), strict=True):
            if part is not None:
                path = folder / f"{source.name}.tif"
                strips = _stored if is_stored else _physical
                _write(path, strips(source, raster, part, form), part, form)
                files.append(path)
    if not files:
        raise DataError(f"The area in {area} is in none of the images; give images that cover it.")
    return StackedBand(files=tuple(files), **common, **form.options())


def _form(source: BandSource, raster: RasterSource) -> _Form:
    if not 1 <= source.index <= len(raster.bands):
        raise DataError(f"{raster.name} has no band {source.index}, only {len(raster.bands)}; check its item.")
    band = raster.bands[source.index - 1]
    declared = [float(value) for value in (source.nodata, band.nodata) if value is not None]
    if np.dtype(band.dtype).kind in "iu":  # a value that cannot occur means nothing
        limits = np.iinfo(band.dtype)
        declared = [value for value in declared if value.is_integer() and limits.min <= value <= limits.max]
    return _Form(band.dtype, source.scale, source.offset, declared[0] if declared else None, source.unit)


def _physical_form(sources: Sequence[BandSource]) -> _Form:
    units = {declared_unit(source.unit) for source in sources}
    if units <= SAR_UNITS.keys():
        units = {"power"}
    if len(sources) == 1 and not sources[0].unit:
        raise DataError(
            f"{sources[0].raster} hides pixels by a mask or alpha, and its item says no unit; give the file itself "
            "with --rgb or --sar, downloaded if it is on the web."
        )
    if len(units) > 1 or "" in units:
        raise DataError(
            f"{sources[0].raster} and those of the other items have masks, grids or units that cannot be joined "
            "without knowing what their values mean; map them one by one, or put them on one grid with gdalwarp."
        )
    return _Form("float32", 1.0, 0.0, float("nan"), units.pop())


def _write(path: Path, strips: Iterator[np.ndarray], grid: Grid, form: _Form) -> None:
    meaning = {"scales": [form.scale], "offsets": [form.offset], "units": [form.unit], "nodata": form.nodata}
    write_geotiff(path, strips, grid, dtype=form.dtype, level=1, **meaning)


def _stored(source: BandSource, raster: RasterSource, part: Grid, form: _Form) -> Iterator[np.ndarray]:
    """Strips (1, rows, W) of stored values, of the nearest pixels on another lattice."""
    offset = lattice_offset(raster.grid, part)

    def read(*window: int) -> np.ndarray:
        return raster.read([source.index], window, nodata=False)[0][..., 0]

    placement = None if offset is not None else Placement(raster.grid, part)
    for row, rows in _strips(part):
        if offset is not None:
            yield read(offset[1] + row, offset[0], rows, part.width)[np.newaxis]
        else:
            fill = 0 if form.nodata is None else form.nodata
            yield nearest_pixels(read, placement, row, 0, rows, part.width, fill, form.dtype)[np.newaxis]


def _physical(source: BandSource, raster: RasterSource, part: Grid, form: _Form) -> Iterator[np.ndarray]:
    """Strips (1, rows, W) of physical values, float32, NaN without data."""
    unit = SAR_UNITS.get(declared_unit(source.unit))

    def read(*window: int) -> tuple[np.ndarray, np.ndarray]:
        values, known = raster.read([source.index], window, "float32")
        valid = np.ones(values.shape, bool) if known is None else known
        if source.nodata is not None:
            valid = valid & (values != np.float32(source.nodata))
        values = values * np.float32(source.scale) + np.float32(source.offset)
        if unit is not None:
            valid &= unit.measured(values)
            values = unit.to_power(np.where(valid, values, 1)).astype(np.float32, copy=False)
        return values, valid[..., 0]

    placement = Placement(raster.grid, part)
    for row, rows in _strips(part):
        values, valid = resample_image(read, placement, row, 0, rows, part.width)
        values[~valid] = np.nan
        yield values.transpose(2, 0, 1)


def _strips(grid: Grid) -> Iterator[tuple[int, int]]:
    """First row and number of rows of strips."""
    for row in range(0, grid.height, ROWS_AT_ONCE):
        yield row, min(ROWS_AT_ONCE, grid.height - row)
