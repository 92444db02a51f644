"""Satellite products as plain rasters: their bands, units, masks and dates come from their own metadata."""

from mm_ovseg.products.prepare import PreparedImage, is_product, prepare_image
from mm_ovseg.products.product import CloudLayer, Kind, Preparation, Product
from mm_ovseg.products.stac.stac_search import FoundItems, find_items

__all__ = [
    "CloudLayer",
    "FoundItems",
    "Kind",
    "Preparation",
    "PreparedImage",
    "Product",
    "find_items",
    "is_product",
    "prepare_image",
]
