"""The files that are read along with a raster or a dataset, for :func:`mm_ovseg.files.check_outputs`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mm_ovseg.errors import DataError
from mm_ovseg.raster import open_raster

__all__ = ["raster_inputs", "sample_inputs"]

KINDS = {
    "file_name": "one of the RGB images",
    "sar_file_name": "one of the SAR images",
    "sem_seg_file_name": "one of the label maps",
}


def raster_inputs(
    rasters: Mapping[str, Iterable[str | os.PathLike | None]],
) -> dict[str, Iterable[str | os.PathLike | None]]:
    """Rasters and the files that belong to them: masks, overviews, metadata, and sources of a virtual raster.

    Args:
        rasters: Description, such as "the RGB image" -> paths; None is skipped.

    Returns:
        The same, plus the files that belong to them under separate descriptions, which are looked up on iteration; a
        raster that cannot be read has none.
    """
    rasters = {what: list(paths) for what, paths in rasters.items()}
    return {**rasters, **{f"part of {what}": _parts(paths) for what, paths in rasters.items()}}


def sample_inputs(samples: Iterable[Mapping]) -> dict[str, Iterable[str | os.PathLike | None]]:
    """The files of dataset dicts, as from :func:`raster_inputs`."""
    samples = list(samples)
    return raster_inputs({what: [sample.get(key) for sample in samples] for key, what in KINDS.items()})


def _parts(paths: Iterable[str | os.PathLike | None]) -> Iterator[Path]:
    for path in paths:
        if path is None:
            continue
        try:
            with open_raster(path, any_format=True) as dataset:
                files = [Path(file) for file in dataset.files]
        except DataError:
            continue  # its reader reports why
        yield from files
