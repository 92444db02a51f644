"""The optical image of a STAC item: which bands it has, how they become reflectance, and where its clouds are."""

import re
from dataclasses import replace

from mm_ovseg.data.cloud_mask import CloudValues
from mm_ovseg.errors import DataError
from mm_ovseg.products.stac.stac_document import AssetBand, Item, ItemImage
from mm_ovseg.raster.units import REFLECTANCE

__all__ = ["optical_image"]

COLORS = ("red", "green", "blue")
# The keys of Sentinel-2's and HLS's bands, for items that do not name the colours.
KEYS = {"red": "b04", "green": "b03", "blue": "b02"}
AT_10_M = re.compile(r"(b0[234])_10m")
NOT_FOR_MEASURING = {"visual", "overview", "thumbnail"}
RENDERED = re.compile(r"visual|true.?colou?r|tci(_\d+m)?|rendered.*|preview|overview|thumbnail", re.IGNORECASE)
# Bits of the Fmask of HLS: cloud 1, cloud shadow 3; 255 means no data.
FMASK_CLOUDS = tuple(value for value in range(255) if value & 0b1010)
NEEDS_SCALE = (
    "does not tell how its values become reflectance; save the item, and add scale and offset (for plain pictures, the "
    "data_type uint8) to its raster:bands"
)


def optical_image(item: Item) -> ItemImage:
    """The optical image of an item: reflectance, or the 8-bit true colours of an item without.

    Raises:
        DataError: It has none, or does not tell how its values become reflectance.
    """
    measured = [band for band in item.bands if not (band.roles & NOT_FOR_MEASURING or RENDERED.fullmatch(band.key))]
    colors = [_best(measured, color, _uses_sentinel_keys(item)) for color in COLORS]
    if None in colors:
        rendered = [band for band in item.bands if RENDERED.fullmatch(band.key) and "thumbnail" not in band.roles]
        return ItemImage(item=item, bands=_true_colors(item, rendered))
    bands = tuple(_as_reflectance(item, band) for band in colors)
    clouds, values = _clouds(item)
    if values == "scl":
        return ItemImage(item=item, bands=bands, mask=clouds, valid=tuple(range(1, 12)), clouds=clouds, cloudy=values)
    return ItemImage(item=item, bands=bands, clouds=clouds, cloudy=values)


def _best(bands: list[AssetBand], color: str, sentinel: bool) -> AssetBand | None:
    """The band of a colour: by its key or common name, then GeoTIFF before JPEG 2000, then by its resolution."""
    names = {color, KEYS[color]} if sentinel else {color}
    found = [
        band
        for band in bands
        if band.common_name == color or (not band.common_name and names & {_plain(band.key), band.name})
    ]

    def order(band: AssetBand) -> tuple:
        return (".tif" not in band.location.lower(), band.resolution or 0.0, _plain(band.key) not in names, band.key)

    return min(found, key=order, default=None)


def _plain(key: str) -> str:
    key = key.lower()
    return match[1] if (match := AT_10_M.fullmatch(key)) else key


def _uses_sentinel_keys(item: Item) -> bool:
    return _is_sentinel2(item) or _is_hls(item)


def _is_sentinel2(item: Item) -> bool:
    names = (item.text("constellation"), item.text("platform"), item.collection)
    return any("sentinel-2" in name.lower() for name in names) or re.match(r"S2[A-D]_", item.id) is not None


def _is_hls(item: Item) -> bool:
    return re.match(r"HLS\.[SL]30\.", item.id) is not None or item.collection.lower().startswith("hls")


def _true_colors(item: Item, rendered: list[AssetBand]) -> tuple[AssetBand, ...]:
    """The three bands of the sharpest rendering."""
    rendered = sorted(rendered, key=lambda band: (".tif" not in band.location.lower(), band.resolution or 0.0))
    if not rendered:
        keys = ", ".join(dict.fromkeys(band.key for band in item.bands)) or "none that are rasters"
        raise DataError(
            f"The item {item.id} has no red, green and blue (its assets: {keys}); give an item of an optical sensor."
        )
    first = rendered[0]
    common = {"key": first.key, "location": first.location, "nodata": first.nodata}
    return tuple(AssetBand(index=index, name=color, **common) for index, color in enumerate(COLORS, start=1))


def _as_reflectance(item: Item, band: AssetBand) -> AssetBand:
    if band.data_type == "uint8" and band.scale is None:  # such as an aerial photograph
        return band
    scale, offset, nodata = _conversion(item, band)
    nodata = nodata if band.nodata is None else band.nodata
    return replace(band, scale=scale, offset=offset, nodata=nodata, unit=REFLECTANCE)


def _conversion(item: Item, band: AssetBand) -> tuple[float, float, float | None]:
    """Scale, offset and nodata value."""
    if _is_sentinel2(item) and not _is_hls(item):
        return (*_sentinel2_conversion(item, band), 0.0)
    if band.scale is not None and band.scale > 0:
        return band.scale, band.offset or 0.0, None
    if _is_hls(item):
        return 1e-4, 0.0, -9999.0
    level = item.text("landsat:correction").upper()
    if item.text("landsat:collection_number") == "02" and level in ("L2SP", "L2SR"):
        return 2.75e-5, -0.2, 0.0
    if band.unit.lower() == REFLECTANCE and band.data_type.startswith("float"):
        return 1.0, 0.0, None
    raise DataError(f"The item {item.id} {NEEDS_SCALE}.")


def _sentinel2_conversion(item: Item, band: AssetBand) -> tuple[float, float]:
    """Scale and offset of Sentinel-2's bands, which since processing baseline 04.00 are stored with 1000 added.

    What an item says of its bands is right, except where ``earthsearch:boa_offset_applied`` says that the 1000 were
    subtracted again: there, it may name the offset of the original product.
    """
    is_applied, baseline = item.properties.get("earthsearch:boa_offset_applied"), _baseline(item)
    scale = band.scale if band.scale is not None and band.scale > 0 else None
    if is_applied is True:
        return scale or 1e-4, 0.0
    if None not in (scale, band.offset) and (is_applied is None or baseline is None):
        return scale, band.offset
    has_offset = baseline is not None and baseline >= (4, 0)
    if baseline is None or (has_offset and is_applied is None and scale is not None):
        raise DataError(f"The item {item.id} {NEEDS_SCALE}.")
    return scale or 1e-4, -0.1 if has_offset else 0.0


def _baseline(item: Item) -> tuple[int, int] | None:
    """The processing baseline, such as (4, 0)."""
    for key in ("s2:processing_baseline", "processing:version"):
        if match := re.fullmatch(r"(\d{2})\.(\d{2})", item.text(key)):
            return int(match[1]), int(match[2])
    for name in (item.text("s2:product_uri"), item.id):
        if match := re.search(r"_N(\d{2})(\d{2})_", name):
            return int(match[1]), int(match[2])
    return None


def _clouds(item: Item) -> tuple[AssetBand | None, CloudValues]:
    """The band of flags that says where clouds are, and which kind of flags it has."""
    kinds: dict[str, CloudValues] = {"scl": "scl", "qa_pixel": "qa_pixel", "fmask": FMASK_CLOUDS}
    for kind, values in kinds.items():
        found = [band for band in item.bands if re.fullmatch(rf"{kind}(_\d+m)?", band.key, re.IGNORECASE)]
        if found:
            return min(found, key=lambda band: (band.resolution or 0.0, band.key)), values
    return None, None
