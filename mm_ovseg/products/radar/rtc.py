"""Sentinel-1 that others have calibrated and terrain-corrected (RTC): OPERA, ASF HyP3, Planetary Computer, and NRB."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from mm_ovseg.errors import DataError
from mm_ovseg.products.product import Kind, Preparation, Product
from mm_ovseg.products.radar.rtc_names import RTCFile, parse_name
from mm_ovseg.products.sar_image import POLARISATIONS, check_one_pass, files_within, polarisation_band
from mm_ovseg.raster import StackMask, read_raster_info

__all__ = ["read", "recognises"]

DUAL = {"DV": ("VV", "VH"), "DH": ("HH", "HV")}


def recognises(file: str | os.PathLike, kind: Kind) -> bool:
    """Whether its name is that of an RTC file, or it is a folder or zip that contains some."""
    return kind == "sar" and bool(files_within([file], _is_known))


def read(files: Sequence[str | os.PathLike], kind: Kind, preparation: Preparation) -> Product:
    """Read products of one producer and pass.

    Raises:
        DataError: They are of several producers, passes or units, one is there twice, or lacks a file; or a file cannot
            be read, or joined with the others.
    """
    known = _parse(files_within(files, _is_known, preparation.folder))
    images = [file for file in known if file.layer in POLARISATIONS]
    if not images:
        raise DataError(f"{files[0]} has no backscatter, only a mask; add the file of VV or HH.")
    products = _by_product(images)
    polarisations = next(iter(products.values()))
    firsts = [next(iter(layers.values())) for layers in products.values()]
    convention = firsts[0].convention
    _check_alike(firsts)
    _check_complete(products, expect_all=any(map(os.path.isdir, files)))
    quantity, unit = firsts[0].values
    mask = _mask(firsts, known)
    warnings = []
    if convention.mask and mask is None:
        warnings.append(
            f"{firsts[0].path} has no mask (..._{convention.mask.lower()}.tif) beside it, so layover and shadow count "
            "as data."
        )
    return Product(
        kind=kind,
        ids=tuple(products),
        bands=tuple(
            polarisation_band([layers[name].path for layers in products.values()], name, unit)
            for name in POLARISATIONS
            if name in polarisations
        ),
        mask=mask,
        acquired=tuple(file.start for file in firsts),
        sensor=f"Sentinel-{sensor[1:].upper()} SAR" if (sensor := firsts[0].groups.get("sensor")) else "Sentinel-1 SAR",
        details={
            "producer": convention.producer,
            "backscatter": quantity,
            "terrain_corrected": True,
            "layover_and_shadow_hidden": mask is not None,
        },
        warnings=tuple(warnings),
    )


def _is_known(path: PurePath) -> bool:
    return parse_name(path) is not None


def _parse(paths: Iterable[Path]) -> list[RTCFile]:
    return [file for path in paths if (file := parse_name(path)) is not None]


def _by_product(images: Iterable[RTCFile]) -> dict[str, dict[str, RTCFile]]:
    """Product -> polarisation -> file, in the order of acquisition.

    Raises:
        DataError: An image is there twice.
    """
    products: dict[str, dict[str, RTCFile]] = {}
    for file in sorted(images, key=lambda file: (file.groups.get("start", ""), file.product)):
        layers = products.setdefault(file.product, {})
        if file.layer in layers:
            raise DataError(
                f"{layers[file.layer].path} and {file.path} are the same polarisation of one product; give one of them."
            )
        layers[file.layer] = file
    return products


def _check_alike(products: Sequence[RTCFile]) -> None:
    """Check that products, each given by one of its files, can be parts of one image.

    Raises:
        DataError: They cannot.
    """
    first = products[0]
    for file in products[1:]:
        if (file.convention.producer, file.values) != (first.convention.producer, first.values):
            kinds = [" ".join((of_file.convention.producer, *of_file.values)) for of_file in (first, file)]
            raise DataError(f"{first.path} is {kinds[0]} and {file.path} is {kinds[1]}; give products of one kind.")
        if first.convention.mask and first.convention.outside is None:
            raise DataError(
                f"{first.path} and {file.path} are different {first.convention.producer} products, which are not "
                "joined; map them one by one."
            )
    check_one_pass({file.product: file.start for file in products})
    bursts: dict[str, RTCFile] = {}
    for file in products:
        if file.burst[:4] != first.burst[:4]:
            raise DataError(
                f"{first.path} and {file.path} are of different orbits; give the files of one pass, and map the others "
                "on their own."
            )
        if file.burst and (other := bursts.setdefault(file.burst, file)) is not file:
            raise DataError(f"{other.path} and {file.path} are the same burst, processed twice; give one of them.")


def _check_complete(products: Mapping[str, Mapping[str, RTCFile]], expect_all: bool) -> None:
    """Check that products have the same polarisations; with ``expect_all``, also those that their names promise.

    Raises:
        DataError: One is missing.
    """
    expected = dict.fromkeys(layer for layers in products.values() for layer in layers)
    for product, layers in products.items():
        promised = next(iter(layers.values())).groups.get("polarisations", "").upper() if expect_all else ""
        missing = [layer for layer in (*expected, *DUAL.get(promised, ())) if layer not in layers]
        if missing:
            raise DataError(
                f"{product} lacks its {missing[0]} file; add it, or name only the files of the polarisations to read."
            )


def _mask(products: Sequence[RTCFile], known: Iterable[RTCFile]) -> StackMask | None:
    """The layover and shadow masks of products, each given by one of its files; None if they have none.

    Args:
        products: One file of each.
        known: Files that were named, which may contain masks; others are looked for beside the products' files.

    Raises:
        DataError: Some products have one and others not, or one is not a mask.
    """
    convention = products[0].convention
    folders = dict.fromkeys(file.path.parent for file in products)
    beside = _parse(path for folder in folders for path in sorted(folder.glob("*")))
    masks: dict[str, Path] = {}
    for file in (*beside, *known):
        if file.layer == convention.mask:
            masks[file.burst if "-STATIC_" in file.product.upper() else file.product] = file.path
    found = [masks.get(file.product, masks.get(file.burst)) for file in products]
    if not any(found):
        return None
    for file, mask in zip(products, found, strict=True):
        if mask is None:
            raise DataError(f"{file.product} has no layover and shadow mask, but other products have; add its mask.")
        if read_raster_info(mask).dtypes != ("uint8",):
            raise DataError(f"{mask} is not an 8-bit mask of layover and shadow; replace it.")
    return StackMask(files=tuple(found), valid=convention.valid, outside=convention.outside)
