"""Records of products that were fetched or computed, so that the same request gives the same files again."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp

from mm_ovseg.files import complete_file, sha256
from mm_ovseg.products.product import CloudLayer, Product
from mm_ovseg.raster import StackedBand, StackMask
from mm_ovseg.raster.remote import is_address, without_signature

__all__ = ["area_identity", "load_product", "save_product", "source_identity"]


def source_identity(source: str) -> list[str]:
    """What stays the same while a document does: its address without a signature, or its path and content."""
    if is_address(source):
        return [without_signature(source)]
    with suppress(OSError):  # whoever reads it says what is wrong
        return [os.path.abspath(source), sha256(source)]
    return [source]


def area_identity(area: Path | None, layer: str | None) -> list[Any]:
    """What stays the same while an area of interest does."""
    if area is None:
        return []
    if not area.is_dir():
        return [layer, *source_identity(os.fspath(area))[1:]]
    files = sorted(file for file in area.rglob("*") if file.is_file())  # such as a file geodatabase
    return [layer, *([file.name, *_state(file)] for file in files)]


def save_product(record: Path, request: Mapping[str, Any], product: Product, inputs: Iterable[Path]) -> None:
    """Record a product.

    Args:
        record: The file to write.
        request: What it was made from, ready for JSON.
        product: The product.
        inputs: Local files that it was made from.

    Raises:
        DataError: The file cannot be written.
    """
    content = {
        "request": request,
        "files": {str(file): _state(file) for file in dict.fromkeys([*inputs, *_files(product)])},
        "product": asdict(product),
    }
    with complete_file(record) as temporary:
        temporary.write_text(json.dumps(content, default=_plain, indent=1) + "\n", encoding="utf-8")


def load_product(record: Path, request: Mapping[str, Any]) -> Product | None:
    """The recorded product; None if there is none for this request, or one of its files has changed since."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        are_same = all(_state(Path(file)) == state for file, state in content["files"].items())
        return _product(content["product"]) if are_same and content["request"] == request else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _product(entries: dict[str, Any]) -> Product:
    mask, clouds = entries["mask"], entries["clouds"]
    return Product(
        **{
            **entries,
            "ids": tuple(entries["ids"]),
            "bands": tuple(
                StackedBand(**{**band, "files": _paths(band["files"]), "meaning": ColorInterp(band["meaning"])})
                for band in entries["bands"]
            ),
            "mask": mask and StackMask(**{**mask, "files": _paths(mask["files"])}),
            "clouds": clouds and CloudLayer(Path(clouds["path"]), clouds["values"]),
            "acquired": tuple(time and datetime.fromisoformat(time) for time in entries["acquired"]),
            "warnings": tuple(entries["warnings"]),
        }
    )


def _paths(names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(map(Path, names))


def _files(product: Product) -> list[Path]:
    files = [file for band in product.bands for file in band.files]
    files += product.mask.files if product.mask else ()
    return [*files, product.clouds.path] if product.clouds else files


def _state(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
