"""STAC items, local or on the web: of files on the web, only what an area needs is fetched."""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rasterio.enums import ColorInterp

from mm_ovseg import __version__
from mm_ovseg.errors import DataError
from mm_ovseg.products.product import CloudLayer, Kind, Preparation, Product
from mm_ovseg.products.sar_image import check_one_pass
from mm_ovseg.products.stac.kept_product import area_identity, load_product, save_product, source_identity
from mm_ovseg.products.stac.optical_items import optical_image
from mm_ovseg.products.stac.radar_items import ORDER, sar_image
from mm_ovseg.products.stac.stac_document import AssetBand, Item, ItemImage, item_of, read_document
from mm_ovseg.raster import StackedBand, StackMask, write_band_stack
from mm_ovseg.raster.gathering import BandSource, gather_band
from mm_ovseg.raster.remote import is_address, without_query, without_signature
from mm_ovseg.raster.remote_file import RemoteFile

__all__ = ["read", "read_image", "recognises"]

logger = logging.getLogger(__name__)

ITEM_SUFFIXES = (".json", ".geojson")
# Addresses that are products or rasters themselves, which are not fetched.
OTHERS = re.compile(r".*\.(tiff?|jp2|png|jpe?g|vrt|nc|h5|zip|tar|t?gz|safe)/?", re.IGNORECASE)
MAX_BYTES = 10_000_000  # searched for what all STAC documents have
COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
# Name in the report -> property.
REPORTED = {"processing_baseline": "s2:processing_baseline", "cloud_cover": "eo:cloud_cover"}
REPORTED |= {"orbit": "sat:relative_orbit", "direction": "sat:orbit_state"}
MAX_NAME = 80  # characters, of local files
PARTS = "fetched_parts"  # folder of what is being fetched


def recognises(file: str | os.PathLike, kind: Kind) -> bool:
    """Whether it is a STAC document, or an address of anything but rasters and archives."""
    return _is_item(os.fspath(file))


def read(files: Sequence[str | os.PathLike], kind: Kind, preparation: Preparation) -> Product:
    """Read items as one image; rasters on the web are fetched within the area, and kept.

    The same items and area give the kept files again, without any request.
    """
    sources = [os.fspath(file) for file in files]
    request = {"version": __version__, "kind": kind, "items": [source_identity(source) for source in sources]}
    request["area"] = area_identity(preparation.area, preparation.area_layer)
    record = preparation.folder / f"{kind}_items.json"
    if (product := load_product(record, request)) is not None:
        return product
    images = [read_image(item_of(read_document(source), source), kind) for source in sources]
    if kind == "sar":
        check_one_pass({image.item.id: image.item.acquired for image in images})
    parts = preparation.folder / PARTS
    product = _gather(images, kind, preparation, parts)
    bands = [band for image in images for band in (*image.bands, image.mask, image.clouds) if band is not None]
    save_product(record, request, product, [Path(band.location) for band in bands if not is_address(band.location)])
    shutil.rmtree(parts, ignore_errors=True)
    return product


def read_image(item: Item, kind: Kind) -> ItemImage:
    """What to take from an item as "rgb" or "sar".

    Raises:
        DataError: It has no such image, or does not tell what its values mean.
    """
    return optical_image(item) if kind == "rgb" else sar_image(item)


def _gather(images: Sequence[ItemImage], kind: Kind, preparation: Preparation, parts: Path) -> Product:
    columns, warnings = _columns(images), []

    def gather(bands: Sequence[AssetBand], **options: Any) -> StackedBand:
        found = [_source(image.item, band, parts) for image, band in zip(images, bands, strict=True)]
        where = {"area": preparation.area, "area_layer": preparation.area_layer}
        return gather_band(found, preparation.folder, **where, **options)

    bands = []
    for column, meaning in zip(columns, COLORS if kind == "rgb" else [ColorInterp.gray] * len(columns), strict=True):
        logger.info("Reading %s of %s.", column[0].key, ", ".join(image.item.id for image in images))
        bands.append(gather(column, description=(column[0].name or column[0].key).upper(), meaning=meaning))
    mask = clouds = None
    first = images[0]
    if first.mask is not None and _are_alike([(image.mask is None, image.valid, image.outside) for image in images]):
        flags = gather([image.mask for image in images], categorical=True)
        mask = StackMask(files=flags.files, valid=first.valid, outside=first.outside)
    elif any(image.mask is not None for image in images):
        warnings.append("Not all STAC items have a mask of what is not valid, or not the same, so none is used.")
    if first.clouds is not None and _are_alike([(image.clouds is None, image.cloudy) for image in images]):
        if mask is None or first.clouds != first.mask:
            flags = gather([image.clouds for image in images], categorical=True)
        path = flags.files[0]
        if len(flags.files) > 1:
            path = preparation.folder / f"{kind}_clouds.vrt"
            write_band_stack(path, [flags])
        clouds = CloudLayer(path, first.cloudy)
    elif any(image.clouds is not None for image in images):
        warnings.append("Not all STAC items tell where clouds are, in the same way, so none are known.")
    items = [image.item for image in images]
    return Product(
        kind=kind,
        ids=tuple(item.id for item in items),
        bands=tuple(bands),
        mask=mask,
        clouds=clouds,
        acquired=tuple(item.acquired for item in items),
        sensor=", ".join(dict.fromkeys(item.sensor for item in items if item.sensor)),
        details={"items": [_details(item) for item in items]},
        warnings=tuple(warnings),
    )


def _columns(images: Sequence[ItemImage]) -> list[list[AssetBand]]:
    """Each colour, or each polarisation that all items have, of each item."""
    names = [{band.name for band in image.bands} for image in images]
    common = set.intersection(*names) if images[0].bands[0].name in ORDER else None
    if common is None:
        return [list(column) for column in zip(*(image.bands for image in images), strict=True)]
    if not common:
        raise DataError(
            f"The items {images[0].item.id} and others have no polarisation in common; give those that have one by one."
        )
    chosen = [[band for band in image.bands if band.name in common] for image in images]
    return [list(column) for column in zip(*chosen, strict=True)]


def _are_alike(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _source(item: Item, band: AssetBand, parts: Path) -> BandSource:
    """The band as a source to gather, with a name that no other has."""
    is_remote = is_address(band.location)
    if not is_remote and (is_address(item.source) or "://" in band.location):
        raise DataError(
            f"The item {item.id} has its {band.key} at {band.location}, which is not read; give an item with "
            "https:// addresses, or download its files, and let it name them."
        )
    identity = f"{item.id} {band.key} {without_signature(band.location) if is_remote else band.location}"
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    name = re.sub(r"[^\w.-]+", "_", f"{item.id}_{band.key}")[:MAX_NAME] + f"_{digest}"
    raster = RemoteFile(band.location, parts / name) if is_remote else Path(band.location)
    return BandSource(
        raster=raster,
        name=name if band.index == 1 else f"{name}_{band.index}",
        index=band.index,
        scale=1.0 if band.scale is None else band.scale,
        offset=band.offset or 0.0,
        nodata=band.nodata,
        unit=band.unit,
    )


def _details(item: Item) -> dict[str, Any]:
    """What the report says of an item."""
    found = {"id": item.id, "collection": item.collection, "source": without_query(item.source)}
    for name, key in REPORTED.items():
        if key in item.properties:
            found[name] = item.properties[key]
    return found


def _is_item(name: str) -> bool:
    if is_address(name):
        return OTHERS.fullmatch(urlsplit(name).path) is None
    try:
        if not name.lower().endswith(ITEM_SUFFIXES) or not os.path.isfile(name):
            return False
        with open(name, "rb") as file:
            return b'"stac_version"' in file.read(MAX_BYTES)
    except (OSError, ValueError):
        return False
