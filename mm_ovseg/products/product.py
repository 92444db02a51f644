"""What a satellite product is to this package: an image of plain rasters, and what its metadata says about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mm_ovseg.data.cloud_mask import CloudValues
from mm_ovseg.raster import StackedBand, StackMask

__all__ = ["CloudLayer", "Kind", "Preparation", "Product"]

Kind = Literal["rgb", "sar"]


@dataclass(frozen=True)
class CloudLayer:
    """A raster of where an optical image is under cloud.

    Attributes:
        path: The raster, on any grid.
        values: Its values that mean cloud; see :class:`~mm_ovseg.data.cloud_mask.CloudMask`.
    """

    path: Path
    values: CloudValues


@dataclass(frozen=True, kw_only=True)
class Product:
    """An image of one or several products of the same kind, in local rasters.

    Attributes:
        kind: "rgb" or "sar".
        ids: The identifiers of the products, such as "S2A_MSIL2A_20230101T...".
        bands: Red, green and blue, or one to three polarisations (co-polarised first), with their units.
        mask: Where the bands have data, besides their nodata values; None for everywhere.
        clouds: Where clouds are, as the product says; None if it does not.
        acquired: Start of each acquisition in UTC, in the order of ``ids``; None if unknown.
        sensor: Such as "Sentinel-2A MSI"; "" if unknown.
        details: What else the report should keep, ready for JSON: processing baseline, orbit, terrain correction.
        warnings: Sentences that the user must read, such as "... is not terrain-corrected".
    """

    kind: Kind
    ids: tuple[str, ...]
    bands: tuple[StackedBand, ...]
    mask: StackMask | None = None
    clouds: CloudLayer | None = None
    acquired: tuple[datetime | None, ...] = ()
    sensor: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What the preparation of a product may use.

    Attributes:
        folder: Where files that must be computed, unpacked or fetched are written; they are named after the product,
            appear when they are complete, and are used again if they are there and were made from the same input.
        dem: A digital elevation model for terrain correction, in metres, in any reference system; None for none.
        area: A vector file; what is outside of its extent need not be fetched or computed. None for everything.
        area_layer: Its layer; None if it has only one.
    """

    folder: Path
    dem: Path | None = None
    area: Path | None = None
    area_layer: str | None = None
