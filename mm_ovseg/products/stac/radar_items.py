"""The SAR image of a STAC item: which polarisations it has, and in which unit."""

import re
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from mm_ovseg.errors import DataError
from mm_ovseg.products.stac.stac_document import AssetBand, Item, ItemImage
from mm_ovseg.raster.units import SAR_UNITS, declared_unit

__all__ = ["ORDER", "sar_image"]

ORDER = ("VV", "HH", "VH", "HV")  # co-polarised first
# Within the key of an asset, or at the end of its file's name.
POLARISATION = re.compile(r"(?:^|[^a-z0-9])(vv|vh|hh|hv)(?:$|[^a-z0-9])", re.IGNORECASE)
MASK = re.compile(r"(?:^|[^a-z0-9])mask(?:$|[^a-z0-9])", re.IGNORECASE)
NOT_GEOCODED = ("GRD", "SLC", "GRDH", "GRDM", "SGF", "SSC")


def sar_image(item: Item) -> ItemImage:
    """The SAR image of an item.

    Raises:
        DataError: It has none, is not on a grid on the ground, or does not tell the unit of its values.
    """
    found: dict[str, AssetBand] = {}
    for band in item.bands:
        name = _polarisation(item, band)
        if name is not None and not band.roles & {"thumbnail", "overview", "metadata"}:
            found.setdefault(name, band)
    if not found:
        keys = ", ".join(dict.fromkeys(band.key for band in item.bands)) or "none that are rasters"
        raise DataError(f"The item {item.id} has no SAR (its assets: {keys}); give an item of a SAR sensor.")
    kind = item.text("sar:product_type").upper()
    if kind in NOT_GEOCODED or re.search(r"(^|[-_])(grd|slc)($|[-_])", item.collection, re.IGNORECASE):
        raise DataError(
            f"The item {item.id} is {kind or item.collection}, which is not on a grid on the ground; give an item that "
            "is terrain-corrected (such as of sentinel-1-rtc), or download the product and give its .SAFE folder."
        )
    bands = tuple(replace(found[name], name=name, unit=_unit(item, found[name])) for name in ORDER if name in found)
    return ItemImage(item=item, bands=bands, **_mask(item))


def _polarisation(item: Item, band: AssetBand) -> str | None:
    for text in (band.name, band.key, PurePosixPath(urlsplit(band.location).path).stem):
        if match := POLARISATION.search(text):
            return match[1].upper()
    for names in (band.polarizations, item.texts("sar:polarizations") if "data" in band.roles else ()):
        if len(names) == 1 and names[0].upper() in ORDER:
            return names[0].upper()
    return None


def _unit(item: Item, band: AssetBand) -> str:
    if (unit := declared_unit(band.unit)) in SAR_UNITS:
        return unit
    if _is_rtc(item):  # radiometrically terrain-corrected: linear power of gamma0
        return "power"
    if band.data_type == "uint8":
        return ""
    raise DataError(
        f"The item {item.id} does not tell what its values are; save the item, and add the unit 'power', "
        "'amplitude' or 'dB' to its raster:bands."
    )


def _is_rtc(item: Item) -> bool:
    is_named = re.search(r"(^|[-_])rtc($|[-_])", f"{item.collection}_{item.id}", re.IGNORECASE) is not None
    return item.text("sar:product_type").upper() == "RTC" or is_named


def _mask(item: Item) -> dict:
    """The mask of layover and shadow of OPERA's products, where 0 is neither, and 255 means no data."""
    if not item.id.upper().startswith("OPERA_L2_RTC"):
        return {}
    named = [band for band in item.bands if MASK.search(PurePosixPath(urlsplit(band.location).path).stem)]
    return {"mask": named[0], "valid": (0,), "outside": 255} if named else {}
