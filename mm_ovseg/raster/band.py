"""The bands of a raster file, and which of their values mean no data."""

from dataclasses import dataclass

import numpy as np
from rasterio import DatasetReader
from rasterio.enums import ColorInterp

from mm_ovseg.raster.units import SAR_UNITS, declared_unit, unit_of_name

__all__ = ["Band", "bands_of", "equals_nodata", "without_data"]


@dataclass(frozen=True)
class Band:
    """A band of a :class:`~mm_ovseg.raster.RasterSource`.

    Attributes:
        file: Index of its file in the source.
        index: 1-based index in its file.
        dtype: NumPy type name.
        meaning: Its colour interpretation.
        description: Its description in the file.
        nodata: The nodata value, in stored units; None if the file declares none.
        scale, offset: Convert stored values to physical ones.
        unit: What the physical values are by the file's own words: "reflectance" (0..1), a key of
            :data:`~mm_ovseg.raster.units.SAR_UNITS`, or "" if it does not say.
        named_unit: What its name or other tags say of the unit, a key of SAR_UNITS, for where the settings leave it
            open; or "".
    """

    file: int
    index: int
    dtype: str
    meaning: ColorInterp
    description: str
    nodata: float | None
    scale: float
    offset: float
    unit: str = ""
    named_unit: str = ""


def bands_of(file: int, dataset: DatasetReader) -> list[Band]:
    """All bands of an open file; ``file`` is its index in its source."""
    return [
        Band(
            file=file,
            index=index,
            dtype=dataset.dtypes[index - 1],
            meaning=dataset.colorinterp[index - 1],
            description=dataset.descriptions[index - 1] or "",
            nodata=dataset.nodatavals[index - 1],
            scale=dataset.scales[index - 1],
            offset=dataset.offsets[index - 1],
            unit=declared_unit(dataset.units[index - 1]),
            named_unit=_named_unit(dataset, index),
        )
        for index in range(1, dataset.count + 1)
    ]


def _named_unit(dataset: DatasetReader, index: int) -> str:
    tags = [{key.lower(): text for key, text in tags.items()} for tags in (dataset.tags(index), dataset.tags())]
    names = [dataset.descriptions[index - 1], *(of_level.get("long_name") for of_level in tags)]
    units = [declared_unit(of_level.get("units")) for of_level in tags] + [unit_of_name(name) for name in names]
    return next((unit for unit in units if unit in SAR_UNITS), "")


def without_data(values: np.ndarray, band: Band, nodata: bool) -> np.ndarray | bool:
    """Mask of the values (H, W) of a band that are NaN or, with ``nodata``, its nodata value; False if none can be."""
    missing = np.isnan(values) if np.dtype(band.dtype).kind in "fc" else False
    return missing | equals_nodata(values, band) if nodata else missing


def equals_nodata(values: np.ndarray, band: Band) -> np.ndarray | bool:
    """Mask of the values of a band that equal its nodata value; False if none can."""
    if band.nodata is None or np.isnan(band.nodata):
        return False
    stored = np.dtype(band.dtype)
    if stored.kind in "iu":
        if not float(band.nodata).is_integer() or not np.iinfo(stored).min <= band.nodata <= np.iinfo(stored).max:
            return False
        return values == values.dtype.type(int(band.nodata))
    with np.errstate(over="ignore"):
        return values == values.dtype.type(stored.type(band.nodata))  # a float64 has more digits than a float32
