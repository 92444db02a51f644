"""STAC documents, local or on the web, and the bands of an item's assets in one form for all versions of STAC."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from mm_ovseg.data.cloud_mask import CloudValues
from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import parse_json, read_text
from mm_ovseg.raster.remote import fetch_text, is_address, without_query

__all__ = ["AssetBand", "Item", "ItemImage", "item_of", "parse_time", "read_document", "resolve"]

RASTER_TYPES = ("tiff", "jp2", "jpeg2000")
RASTER_SUFFIXES = (".tif", ".tiff", ".jp2")
FRACTION = re.compile(r"\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class AssetBand:
    """A band of an asset; texts are "" and numbers None where the item does not tell.

    Attributes:
        key: Of the asset.
        location: Local path or address of its file.
        index: 1-based band in it.
        name, common_name: Of the band, in lower case.
        scale, offset, nodata, unit: As of a :class:`~mm_ovseg.raster.StackedBand`.
        data_type: Such as "uint16".
        resolution: Metres per pixel.
        roles: Of the asset.
        polarizations: Of the asset, such as ("VV",).
    """

    key: str
    location: str
    index: int = 1
    name: str = ""
    common_name: str = ""
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    unit: str = ""
    data_type: str = ""
    resolution: float | None = None
    roles: frozenset[str] = frozenset()
    polarizations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Item:
    """A STAC item.

    Attributes:
        source: Path or address that it was read from.
        id, collection: Of the item; the collection may be "".
        properties: Its properties.
        geometry: As GeoJSON; None if it has none.
        bands: The bands of its raster assets, in their order.
    """

    source: str
    id: str
    collection: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] | None = None
    bands: tuple[AssetBand, ...] = ()

    def text(self, key: str) -> str:
        """A property as text; "" if it is absent."""
        value = self.properties.get(key)
        return str(value) if isinstance(value, str | int | float) else ""

    def texts(self, key: str) -> list[str]:
        """A property that is a list of texts; empty if it is absent."""
        return _texts(self.properties.get(key))

    @property
    def acquired(self) -> datetime | None:
        """Its start in UTC; None if it does not tell."""
        return parse_time(self.properties.get("start_datetime")) or parse_time(self.properties.get("datetime"))

    @property
    def sensor(self) -> str:
        """Such as "Sentinel-2A MSI"."""
        instruments = [name.upper() for name in self.texts("instruments")]
        return " ".join([self.text("platform").title(), *instruments]).strip()


@dataclass(frozen=True, kw_only=True)
class ItemImage:
    """What to take from an item.

    Attributes:
        item: The item.
        bands: Red, green and blue, or polarisations, with their scale, offset and unit.
        mask: A band of flags that says where the image has data; None for none.
        valid: Its values that mean data.
        outside: Its value where nothing is known.
        clouds: A band of flags that says where clouds are; None for none.
        cloudy: Its values that mean cloud; see :class:`~mm_ovseg.data.cloud_mask.CloudMask`.
    """

    item: Item
    bands: tuple[AssetBand, ...]
    mask: AssetBand | None = None
    valid: tuple[int, ...] = ()
    outside: int = 0
    clouds: AssetBand | None = None
    cloudy: CloudValues = None


def read_document(source: str) -> dict[str, Any]:
    """Read a STAC document: an item, collection, catalogue or list of items.

    Raises:
        DataError: It cannot be read or fetched, or is not a JSON object.
    """
    shown = without_query(source) if is_address(source) else source
    try:
        document = parse_json(fetch_text(source) if is_address(source) else read_text(source))
    except ValueError as error:
        raise DataError(f"{shown} is not JSON ({error}); give a STAC item.") from error
    if not isinstance(document, dict):
        raise DataError(f"{shown} is not a STAC document, which is a JSON object; give a STAC item.")
    return document


def item_of(document: Mapping[str, Any], source: str) -> Item:
    """The item that a document is.

    Raises:
        DataError: It is another kind of document, or damaged.
    """
    shown = without_query(source) if is_address(source) else source
    kind, assets = document.get("type"), document.get("assets")
    if kind != "Feature":
        hint = "; search it with --stac" if kind in ("Catalog", "Collection", "FeatureCollection") else ""
        raise DataError(f"{shown} is not a STAC item but {kind or 'another JSON file'!r}{hint or '; give an item'}.")
    name, properties = document.get("id"), document.get("properties")
    if not isinstance(name, str) or not name or not isinstance(properties, dict) or not isinstance(assets, dict):
        raise DataError(f"{shown} is not a STAC item, which has an id, properties and assets; get it again.")
    geometry, collection = document.get("geometry"), document.get("collection")
    bands = [
        band
        for key, asset in assets.items()
        if isinstance(asset, dict) and isinstance(asset.get("href"), str)
        for band in _bands(key, asset, source)
    ]
    return Item(
        source=source,
        id=name,
        collection=collection if isinstance(collection, str) else "",
        properties=properties,
        geometry=geometry if isinstance(geometry, dict) else None,
        bands=tuple(bands),
    )


def resolve(source: str, href: str) -> str:
    """The local path or address that a document refers to.

    A document from the web refers to the web only: a path in it is one on its own server.
    """
    if is_address(source):
        try:
            return urljoin(source, href)
        except ValueError as error:
            raise DataError(f"{without_query(source)} names {href!r}, which is not an address; correct it.") from error
    if href.startswith("file://"):
        return unquote(urlsplit(href).path)
    if re.match(r"[a-z][a-z0-9+.-]+://", href, re.IGNORECASE):
        return href
    return os.fspath(Path(os.path.abspath(source)).parent / href)


def parse_time(text: Any) -> datetime | None:
    """A time in RFC 3339, in UTC; None for anything else."""
    if not isinstance(text, str):
        return None
    # Before Python 3.11, it reads neither Z nor any number of digits.
    text = FRACTION.sub(lambda match: f".{match[1][:6]:0<6}", re.sub("[Zz]$", "+00:00", text.strip()))
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=time.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (ValueError, OverflowError):  # such as the year 0 in UTC
        return None


def _bands(key: str, asset: Mapping[str, Any], source: str) -> list[AssetBand]:
    location, media = resolve(source, asset["href"]), str(asset.get("type", "")).lower()
    path = urlsplit(location).path if is_address(location) else location
    if not any(kind in media for kind in RASTER_TYPES) and Path(path).suffix.lower() not in RASTER_SUFFIXES:
        return []
    lists = [_dicts(asset.get(name)) for name in ("bands", "raster:bands", "eo:bands")]  # STAC 1.1, and two of 1.0
    found = []
    for index in range(max(1, *map(len, lists))):
        merged = {name: value for name, value in asset.items() if name != "name"}
        for bands in lists:
            merged |= bands[index] if index < len(bands) else {}
        found.append(
            AssetBand(
                key=key,
                location=location,
                index=index + 1,
                name=str(merged.get("name", "")).lower(),
                common_name=str(merged.get("common_name", merged.get("eo:common_name", ""))).lower(),
                scale=_number(merged.get("raster:scale", merged.get("scale"))),
                offset=_number(merged.get("raster:offset", merged.get("offset"))),
                nodata=_number(merged.get("nodata"), finite=False),
                unit=str(merged.get("unit") or ""),
                data_type=str(merged.get("data_type", "")).lower(),
                resolution=_number(
                    merged.get("raster:spatial_resolution", merged.get("spatial_resolution", merged.get("gsd")))
                ),
                roles=frozenset(_texts(asset.get("roles"))),
                polarizations=tuple(_texts(merged.get("sar:polarizations"))),
            )
        )
    return found


def _texts(value: Any) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry if isinstance(entry, dict) else {} for entry in value] if isinstance(value, list) else []


def _number(value: Any, *, finite: bool = True) -> float | None:
    """A number, which may be text such as "nan" unless it must be finite; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if finite and not math.isfinite(number) else number
