"""The families of products that are read; a new one is a module with these two functions, and a line here.

``recognises(file, kind)`` tells, from names and the presence of files alone, whether something that ``--rgb`` or
``--sar`` names belongs to the family; it never raises. ``read(files, kind, preparation)`` gives the
:class:`~mm_ovseg.products.product.Product` of one or several of them, and raises DataError.
"""

from types import ModuleType

from mm_ovseg.products.optical import landsat, sentinel2
from mm_ovseg.products.radar import rtc, x_band
from mm_ovseg.products.sentinel1 import grd
from mm_ovseg.products.stac import stac_item

__all__ = ["FAMILIES"]

FAMILIES: tuple[ModuleType, ...] = (sentinel2, landsat, rtc, x_band, grd, stac_item)
