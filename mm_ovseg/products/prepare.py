"""From products to rasters: what ``--rgb`` and ``--sar`` name becomes a raster that every command reads."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file
from mm_ovseg.products import families
from mm_ovseg.products.product import CloudLayer, Kind, Preparation, Product
from mm_ovseg.raster import Paths, path_list, write_band_stack

__all__ = ["PreparedImage", "is_product", "prepare_image"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedImage:
    """An image, ready to be read.

    Attributes:
        paths: The rasters: those that were given, or the VRT of a product.
        clouds: Where clouds are, by the product itself.
        about: What the report says of the products, ready for JSON; empty for plain rasters.
        warnings: Sentences that the user must read.
    """

    paths: Paths
    clouds: CloudLayer | None = None
    about: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def is_product(paths: Paths, kind: Kind) -> bool:
    """Whether what an option names is a product that must be prepared, rather than plain rasters.

    Raises:
        DataError: The products are of several families.
    """
    return _family(path_list(paths), kind) is not None


def prepare_image(paths: Paths, kind: Kind, preparation: Preparation) -> PreparedImage:
    """Prepare what an option names.

    Args:
        paths: Rasters, which are returned as they are; or products of one family: folders, archives, metadata files,
            STAC items (files or URLs), or images with the names that their agency gives them.
        kind: "rgb" or "sar": what to take from them.
        preparation: Where and how.

    Returns:
        For products, a VRT in ``preparation.folder``, with ``KIND.json`` beside it, which says what it is.

    Raises:
        DataError: A product is incomplete, damaged, or of a kind that is not read; the message says what to do.
        ConfigError: A package that it needs is not installed.
    """
    files = path_list(paths)
    family, unused = _family(files, kind), ()
    if kind == "sar" and preparation.dem is not None:
        unused = (f"--dem {preparation.dem} is not used: it corrects Sentinel-1 GRD products only.",)
    if family is None:
        return PreparedImage(paths, warnings=unused)
    if len({os.path.abspath(file) for file in files}) < len(files):
        raise DataError(f"One of {', '.join(map(str, files))} is given twice; give each product once.")
    product = family.read(files, kind, preparation)
    stack = preparation.folder / f"{kind}.vrt"
    write_band_stack(stack, product.bands, product.mask)
    about = _about(product)
    with complete_file(preparation.folder / f"{kind}.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    warnings = product.warnings if "elevation_model" in product.details else (*product.warnings, *unused)
    return PreparedImage(stack, product.clouds, about, warnings)


def _family(files: Sequence[str | os.PathLike], kind: Kind) -> Any:
    found = [next((family for family in families.FAMILIES if family.recognises(file, kind)), None) for file in files]
    others = [file for file, family in zip(files, found, strict=True) if family is not found[0]]
    if others and (None not in found or any(map(os.path.isdir, files))):
        raise DataError(f"{files[0]} and {others[0]} are not products of one kind; map them one by one.")
    return None if others or not found else found[0]


def _about(product: Product) -> dict[str, Any]:
    return {
        "ids": list(product.ids),
        "sensor": product.sensor,
        "acquired": [None if time is None else time.isoformat() for time in product.acquired],
        "bands": [band.description for band in product.bands],
        "unit": product.bands[0].unit,
        **product.details,
    }
