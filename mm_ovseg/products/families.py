"""The families of products that are read; a new one is a module with these two functions, and a line here.

``recognises(files, kind)`` tells, from names and the presence of files alone, whether all of what an option names
belongs to the family and can give "rgb" or "sar"; it never raises. ``read(files, kind, preparation)`` gives the
:class:`~mm_ovseg.products.product.Product`, and raises DataError.
"""

from types import ModuleType

from mm_ovseg.products import landsat, rtc, sentinel1, sentinel2, stac_item, x_band

__all__ = ["FAMILIES"]

FAMILIES: tuple[ModuleType, ...] = (landsat, rtc, sentinel1, sentinel2, stac_item, x_band)
