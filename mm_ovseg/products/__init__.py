"""Satellite products as plain rasters: their bands, units, masks and dates come from their own metadata."""

from mm_ovseg.products.prepare import PreparedImage, is_product, prepare_image
from mm_ovseg.products.product import CloudLayer, Kind, Preparation, Product

__all__ = ["CloudLayer", "Kind", "Preparation", "PreparedImage", "Product", "is_product", "prepare_image"]
