"""Joining products that are side by side on one lattice of pixels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mm_ovseg.data.cloud_mask import CloudValues
from mm_ovseg.errors import DataError
from mm_ovseg.products.product import CloudLayer
from mm_ovseg.raster import StackedBand, write_band_stack

__all__ = ["join_bands", "join_cloud_layers"]


def join_bands(ids: Sequence[str], bands_of: Sequence[Sequence[StackedBand]]) -> tuple[StackedBand, ...]:
    """The bands of a mosaic; where products overlap, the last with data counts.

    Args:
        ids: The products, for messages.
        bands_of: The bands of each.

    Raises:
        DataError: Two products have other bands, or store the same ones with another scale or offset.
    """
    for name, others in zip(ids, bands_of, strict=True):
        for band, other in zip(bands_of[0], others, strict=True):
            if replace(other, files=band.files) != band:
                raise DataError(
                    f"{ids[0]} and {name} store reflectance differently ({_formula(band)}, but {_formula(other)}), so "
                    "they cannot be joined; map them one by one."
                )
    return tuple(
        replace(same[0], files=tuple(file for band in same for file in band.files))
        for same in zip(*bands_of, strict=True)
    )


def join_cloud_layers(files: Sequence[Path], values: CloudValues, nodata: int, folder: Path) -> CloudLayer:
    """The cloud layer of a mosaic, ``clouds.vrt`` in a folder.

    Args:
        files: The layers of the products.
        values: Their values that mean cloud.
        nodata: Their value that says nothing.
        folder: The folder.

    Raises:
        DataError: A layer cannot be read, or they are on different lattices.
    """
    path = folder / "clouds.vrt"
    write_band_stack(path, [StackedBand(files=tuple(files), nodata=nodata)])
    return CloudLayer(path, values)


def _formula(band: StackedBand) -> str:
    return f"{band.description} = {band.scale:.6g} x value {'-' if band.offset < 0 else '+'} {abs(band.offset):.6g}"
