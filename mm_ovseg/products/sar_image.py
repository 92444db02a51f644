"""What the families of SAR products share: their files, their bands, and the check that they are of one pass."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

import numpy as np

from mm_ovseg.data.tile.unpacking import Wanted, gather_files, list_archive
from mm_ovseg.errors import DataError
from mm_ovseg.raster import SAR_UNITS, RasterSource, StackedBand

__all__ = ["POLARISATIONS", "check_one_pass", "files_within", "polarisation_band"]

POLARISATIONS = ("VV", "HH", "VH", "HV")  # co-polarised first
ONE_PASS = timedelta(hours=1)


def files_within(names: Iterable[str | os.PathLike], wanted: Wanted, folder: Path | None = None) -> list[Path]:
    """The wanted files that names stand for: themselves, those in a folder and the folders in it, those in a zip.

    Args:
        names: Files, folders and zips.
        wanted: Whether the file at a path is needed.
        folder: Where zips are unpacked; None to give the paths in them, at which no file is.

    Raises:
        DataError: A zip is damaged, or contains no such file; not without ``folder``.
        ConfigError: Two zips have the same name; not without ``folder``.
    """
    files: list[Path] = []
    zips: list[Path] = []
    for path in map(Path, names):
        if os.path.isdir(path):
            files += sorted(file for pattern in ("*", "*/*") for file in path.glob(pattern) if file.is_file())
        elif path.suffix.lower() == ".zip" and os.path.isfile(path):
            zips.append(path)
        else:
            files.append(path)
    if folder is not None:
        files += gather_files(zips, wanted, what="SAR image of a known name", work=folder, dry_run=False)[0]
    else:
        for path in zips:
            with suppress(DataError):
                files += map(Path, list_archive(path, wanted))
    return [file for file in {os.path.abspath(file): file for file in files}.values() if wanted(PurePosixPath(file))]


def polarisation_band(files: Sequence[Path], polarisation: str, unit: str, scale: float | None = None) -> StackedBand:
    """A band of rasters side by side, each with a single band.

    What a file itself declares counts; the other arguments are for files that do not say so.

    Args:
        files: The rasters.
        polarisation: One of :data:`POLARISATIONS`, or "" if unknown.
        unit: "power", "amplitude", "dB", or "" if unknown.
        scale: What stored values are multiplied by; None for floats that are in the unit as they are.

    Raises:
        DataError: A file cannot be read, has several bands, or values of another type; or the files differ in unit,
            scale or nodata value.
    """
    bands = [_band(file, unit, scale) for file in files]
    for band in bands[1:]:
        if repr(replace(band, files=())) != repr(replace(bands[0], files=())):  # as text, in which NaN equals NaN
            raise DataError(
                f"{files[0]} and {band.files[0]} differ in unit, scale or nodata value; map them one by one, or make "
                "them alike (gdal_translate)."
            )
    return replace(bands[0], files=tuple(files), description=polarisation)


def _band(file: Path, unit: str, scale: float | None) -> StackedBand:
    with RasterSource(file) as source:
        if len(source.bands) != 1:
            raise DataError(
                f"{file} has {len(source.bands)} bands, but its name is that of a file with one; rename it."
            )
        band = source.bands[0]
    if band.dtype.startswith("complex"):
        raise DataError(f"{file} holds complex values; give a detected, geocoded product instead.")
    own = band.unit if band.unit in SAR_UNITS else ""
    is_float = np.dtype(band.dtype).kind == "f"
    is_scaled = (band.scale, band.offset) != (1, 0)
    if unit and scale is None and not (own or is_scaled) and not is_float:
        raise DataError(
            f"{file} holds {band.dtype} values, but files with such names hold floats; if it was changed, rename it "
            "and set INPUT.SAR.SCALE to what its values are."
        )
    # NaN, so that neighbours count where a file is NaN.
    nodata = math.nan if band.nodata is None and is_float else band.nodata
    return StackedBand(
        files=(file,),
        scale=band.scale if own or is_scaled else scale or 1.0,
        offset=band.offset,
        nodata=nodata,
        unit={"": unit, "db": "dB"}.get(own, own),
    )


def check_one_pass(starts: Mapping[str, datetime | None]) -> None:
    """Check that products, by name, were acquired within an hour, as far as their start is known.

    Raises:
        DataError: They were not.
    """
    known = sorted((start, name) for name, start in starts.items() if start is not None)
    if known and known[-1][0] - known[0][0] > ONE_PASS:
        (first, name), (last, other) = known[0], known[-1]
        raise DataError(
            f"{name} and {other} were acquired at different times ({first:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M} "
            "UTC); give the files of one pass, and map the others on their own."
        )
