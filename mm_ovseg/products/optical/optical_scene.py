"""Optical products: one scene, or several side by side on one lattice of pixels, as a product."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mm_ovseg.data.cloud_mask import CloudValues
from mm_ovseg.errors import DataError
from mm_ovseg.products.product import CloudLayer, Product
from mm_ovseg.raster import StackedBand, write_band_stack

__all__ = ["OpticalScene", "join_scenes"]


@dataclass(frozen=True, kw_only=True)
class OpticalScene:
    """A scene as its agency delivers it.

    Attributes:
        id: The identifier of the product.
        sensor, acquired: See :class:`~mm_ovseg.products.product.Product`.
        bands: Red, green and blue.
        cloud_files: The rasters that say where clouds are; empty if the product does not.
        details: What else the report should keep, ready for JSON; scenes of one family have the same keys.
        warning: A sentence that the user must read, or "".
    """

    id: str
    sensor: str
    acquired: datetime | None
    bands: tuple[StackedBand, ...]
    cloud_files: tuple[Path, ...] = ()
    details: Mapping[str, Any]
    warning: str = ""


def join_scenes(scenes: Sequence[OpticalScene], values: CloudValues, nodata: int, folder: Path) -> Product:
    """Make a product of one or several scenes; where they overlap, the last with data counts.

    Args:
        scenes: The scenes.
        values: Values of their cloud files that mean cloud.
        nodata: Value of their cloud files that says nothing.
        folder: Where ``clouds.vrt`` is written, unless the clouds of a scene are unknown.

    Raises:
        DataError: Two scenes have other bands, or store the same ones with another scale or offset; or the cloud files
            cannot be read or are on different lattices.
    """
    clouds = None
    bands = _join_bands(scenes)
    if all(scene.cloud_files for scene in scenes):
        files = tuple(file for scene in scenes for file in scene.cloud_files)
        clouds = CloudLayer(folder / "clouds.vrt", values)
        write_band_stack(clouds.path, [StackedBand(files=files, nodata=nodata)])
    return Product(
        kind="rgb",
        ids=tuple(scene.id for scene in scenes),
        bands=bands,
        clouds=clouds,
        acquired=tuple(scene.acquired for scene in scenes),
        sensor=" and ".join(dict.fromkeys(scene.sensor for scene in scenes)),
        details={key: [scene.details[key] for scene in scenes] for key in scenes[0].details},
        warnings=(*(scene.warning for scene in scenes if scene.warning), *_date_warnings(scenes)),
    )


def _date_warnings(scenes: Sequence[OpticalScene]) -> list[str]:
    dates = sorted({scene.acquired.date() for scene in scenes if scene.acquired is not None})
    if len(dates) < 2:
        return []
    names = ", ".join(scene.id for scene in scenes)
    return [f"{names} are of {dates[0]} to {dates[-1]}; where they overlap, the last one counts."]


def _join_bands(scenes: Sequence[OpticalScene]) -> tuple[StackedBand, ...]:
    first = scenes[0]
    for scene in scenes:
        for band, other in zip(first.bands, scene.bands, strict=True):
            if replace(other, files=band.files) != band:
                raise DataError(
                    f"{first.id} and {scene.id} store reflectance differently ({_formula(band)}, but "
                    f"{_formula(other)}), so they cannot be joined; map them one by one."
                )
    return tuple(
        replace(same[0], files=tuple(file for band in same for file in band.files))
        for same in zip(*(scene.bands for scene in scenes), strict=True)
    )


def _formula(band: StackedBand) -> str:
    return f"{band.description} = {band.scale:.6g} x value {'-' if band.offset < 0 else '+'} {abs(band.offset):.6g}"
