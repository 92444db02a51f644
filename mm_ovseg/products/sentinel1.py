"""Sentinel-1 ground range detected products (GRD): ``.SAFE`` folders, and their ``manifest.safe``.

What is written is gamma nought, with respect to the ellipsoid and without thermal noise, in linear power. With an
elevation model it is terrain-corrected; without, it is placed by the product's control points.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from rasterio.crs import CRS

from mm_ovseg import __version__
from mm_ovseg.errors import DataError
from mm_ovseg.products.product import Kind, Preparation, Product
from mm_ovseg.products.sentinel1_calibration import Calibration
from mm_ovseg.products.sentinel1_geocoding import Image, write_backscatter
from mm_ovseg.products.sentinel1_placement import ControlPoints, grid_around, map_system
from mm_ovseg.products.sentinel1_safe import (
    AGAIN,
    MANIFEST,
    Safe,
    Xml,
    check_same_acquisition,
    read_annotation,
    read_safe,
)
from mm_ovseg.raster import Grid, StackedBand
from mm_ovseg.raster.mapped_placement import MappedPlacement

__all__ = ["read", "recognises"]

FOLDER = re.compile(r"S1[A-Z]_.*\.SAFE", re.IGNORECASE)


def recognises(files: Sequence[str | os.PathLike], kind: Kind) -> bool:
    """Whether all files are Sentinel-1 products, of whatever type."""
    return kind == "sar" and all(map(_is_sentinel1, files))


def read(files: Sequence[str | os.PathLike], kind: Kind, preparation: Preparation) -> Product:
    """Calibrate and place products, on one lattice.

    Args:
        files: Folders or manifests; several are put side by side, where they overlap the last on top.
        kind: "sar".
        preparation: The computed files are written to its folder.

    Raises:
        DataError: A product is incomplete, damaged, not a GRD, or outside of the area; several have different
            polarisations.
        ConfigError: An elevation model is given, but sarsen is not installed.
    """
    crs, paths, safes, names = None, [], [], []
    for file in files:
        safe = read_safe(_manifest(Path(file)))
        images = _images(safe)
        crs = crs or map_system(images[0].annotation)
        paths.append(_backscatter(safe, images, crs, preparation))
        safes.append(safe)
        names.append([image.annotation.polarisation for image in images])
        if names[-1] != names[0]:
            raise DataError(
                f"{safes[0].folder} has {' and '.join(names[0])}, but {safe.folder} {' and '.join(names[-1])}; map them "
                "one by one."
            )
    bands = [
        StackedBand(files=tuple(paths), index=index, description=name, nodata=float("nan"), unit="power")
        for index, name in enumerate(names[0], start=1)
    ]
    return Product(
        kind=kind,
        ids=tuple(safe.name for safe in safes),
        bands=tuple(bands),
        acquired=tuple(safe.acquired for safe in safes),
        sensor=", ".join(dict.fromkeys(safe.sensor for safe in safes)),
        details={
            "calibration": "gamma nought (ellipsoid), thermal noise removed",
            "terrain_corrected": False,
            "acquisitions": [dict(safe.details) for safe in safes],
        },
        warnings=(
            f"{', '.join(safe.name for safe in safes)} is not terrain-corrected: in mountains its pixels are off by "
            "hundreds of metres; give an elevation model with --dem.",
        ),
    )


def _is_sentinel1(file: str | os.PathLike) -> bool:
    path = Path(os.path.abspath(file))
    folder = path.parent if path.name.lower() == MANIFEST and not path.is_dir() else path
    if not folder.is_dir():
        return False
    has_manifest = (folder / MANIFEST).is_file() and (folder / "annotation").is_dir()
    return has_manifest or FOLDER.fullmatch(folder.name) is not None


def _manifest(path: Path) -> Path:
    manifest = path / MANIFEST if path.is_dir() else path
    if not manifest.is_file():
        raise DataError(f"{manifest} is missing; {AGAIN}.")
    return manifest


def _images(safe: Safe) -> list[Image]:
    """The images of a product, the co-polarised first."""
    images = []
    for channel in safe.channels:
        annotation = read_annotation(channel.annotation)
        images.append(Image(channel.measurement, annotation, Calibration(channel, annotation)))
    first = images[0].annotation
    for image in images[1:]:
        other = image.annotation
        check_same_acquisition(Xml(other.path), first)
        if (other.lines, other.samples) != (first.lines, first.samples) or other.polarisation == first.polarisation:
            raise DataError(f"{first.path} and {other.path} do not fit together; {AGAIN}.")
    return sorted(images, key=lambda image: len(set(image.annotation.polarisation)))


def _backscatter(safe: Safe, images: Sequence[Image], crs: CRS, preparation: Preparation) -> Path:
    """The file with the backscatter of a product on a map, which is computed unless it is there."""
    annotation = images[0].annotation
    points = ControlPoints(annotation, safe.name, crs)
    grid = grid_around(points, annotation.spacing, crs, safe.name, preparation)
    path = preparation.folder / f"{safe.name}_{_request(safe, grid)}.tif"
    if not path.is_file():
        write_backscatter(path, images, MappedPlacement(Grid(annotation.samples, annotation.lines), grid, points))
    return path


def _request(safe: Safe, grid: Grid) -> str:
    """What tells computed files of one product apart: a hash of its files, the grid, and this package's version."""
    files = [path for channel in safe.channels for path in vars(channel).values()]
    states = [(path.name, (status := path.stat()).st_size, status.st_mtime_ns) for path in files]
    request = [__version__, states, grid.crs.to_wkt(), *grid.shape, *grid.transform]
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()[:12]
