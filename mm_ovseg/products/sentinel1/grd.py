"""Sentinel-1 ground range detected products (GRD): ``.SAFE`` folders, their ``manifest.safe``, and zips of them.

What is written is gamma nought, with respect to the ellipsoid and without thermal noise, in linear power. With an
elevation model it is terrain-corrected; without, it is placed by the product's control points.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mm_ovseg import __version__
from mm_ovseg.errors import DataError
from mm_ovseg.files import file_state
from mm_ovseg.products.product import Kind, Preparation, Product
from mm_ovseg.products.product_files import is_named_as, product_files
from mm_ovseg.products.sar_image import check_one_pass
from mm_ovseg.products.sentinel1.backscatter import Calibration
from mm_ovseg.products.sentinel1.control_points import map_system
from mm_ovseg.products.sentinel1.geocoding import Image, geocode
from mm_ovseg.products.sentinel1.safe_folder import (
    AGAIN,
    MANIFEST,
    Safe,
    check_same_acquisition,
    read_annotation,
    read_safe,
)
from mm_ovseg.raster import StackedBand

__all__ = ["read", "recognises"]

PRODUCT = re.compile(r"S1[A-Z]_\w+\.SAFE(?:\.zip)?", re.IGNORECASE)
ANNOTATION = re.compile(r"s1[a-z]-\w+-\w+-.*\.xml", re.IGNORECASE)


def recognises(file: str | os.PathLike, kind: Kind) -> bool:
    """Whether it is a Sentinel-1 product, of whatever type."""
    path = Path(file)
    path = path.parent if path.name.lower() == MANIFEST and path.is_file() else path
    return kind == "sar" and any(is_named_as(place, PRODUCT, ANNOTATION) for place in (path, path / "annotation"))


def read(files: Sequence[str | os.PathLike], kind: Kind, preparation: Preparation) -> Product:
    """Calibrate and place products, on one lattice.

    Args:
        files: Folders, manifests or zips; several are put side by side, where they overlap the last on top.
        kind: "sar".
        preparation: The computed files are written to its folder.

    Raises:
        DataError: A product is incomplete, damaged, not a GRD, or outside of the area; several have different
            polarisations, or are of several passes.
        ConfigError: An elevation model is given, but sarsen is not installed.
    """
    found = product_files(files, _is_needed, what="Sentinel-1 product", folder=preparation.folder)
    safes = [read_safe(_manifest(*of_product)) for of_product in found]
    check_one_pass({safe.name: safe.acquired for safe in safes})
    images = [_images(safe) for safe in safes]
    names = [[image.annotation.polarisation for image in of_product] for of_product in images]
    if other := next((index for index, of_product in enumerate(names) if of_product != names[0]), 0):
        raise DataError(
            f"{safes[0].folder} has {' and '.join(names[0])}, but {safes[other].folder} {' and '.join(names[other])}; "
            "map them one by one."
        )
    crs = map_system(images[0][0].annotation)
    on_map = [
        geocode(safe.name, _request(safe), of_product, crs, preparation)
        for safe, of_product in zip(safes, images, strict=True)
    ]
    paths = tuple(place.path for place in on_map)
    bands = [
        StackedBand(files=paths, index=index, description=name, nodata=float("nan"), unit="power")
        for index, name in enumerate(names[0], start=1)
    ]
    return Product(
        kind=kind,
        ids=tuple(safe.name for safe in safes),
        bands=tuple(bands),
        acquired=tuple(safe.acquired for safe in safes),
        sensor=", ".join(dict.fromkeys(safe.sensor for safe in safes)),
        details={
            "backscatter": "gamma0 (ellipsoid), thermal noise removed",
            "terrain_corrected": preparation.dem is not None,
            **({} if preparation.dem is None else {"elevation_model": str(preparation.dem)}),
            "acquisitions": [dict(safe.details) for safe in safes],
        },
        warnings=tuple(dict.fromkeys(warning for place in on_map for warning in place.warnings)),
    )


def _is_needed(member: PurePosixPath) -> bool:
    return member.name == MANIFEST or member.suffix.lower() in (".xml", ".tif", ".tiff")


def _manifest(folder: Path, files: Sequence[Path]) -> Path:
    manifests = [file for file in files if file.name == MANIFEST]
    if len(manifests) != 1:
        raise DataError(f"{folder} holds {len(manifests)} files {MANIFEST} instead of one; {AGAIN}.")
    return Path(os.path.abspath(manifests[0]))


def _images(safe: Safe) -> list[Image]:
    """The images of a product, the co-polarised first."""
    images = []
    for channel in safe.channels:
        annotation = read_annotation(channel.annotation)
        images.append(Image(channel.measurement, annotation, Calibration(channel, annotation)))
    first = images[0].annotation
    for image in images[1:]:
        other = image.annotation
        check_same_acquisition(other.path, other.acquisition, first)
        if other.size != first.size or other.polarisation == first.polarisation:
            raise DataError(f"{first.path} and {other.path} do not fit together; {AGAIN}.")
    return sorted(images, key=lambda image: len(set(image.annotation.polarisation)))


def _request(safe: Safe) -> list:
    """What computed files depend on: the product's files, and this package's version."""
    files = [path for channel in safe.channels for path in vars(channel).values()]
    return [__version__, *(file_state(path) for path in files)]
