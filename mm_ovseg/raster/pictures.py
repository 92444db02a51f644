"""Writing PNG and JPEG images, with their georeference in a sidecar file."""

import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from mm_ovseg.files import complete_file
from mm_ovseg.raster.grid import Grid

__all__ = ["PICTURES", "write_picture"]

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
SIDE_FILES = (".aux.xml", ".msk")
OPTIONS = {"PNG": {}, "JPEG": {"quality": 95}}


def write_picture(
    path: Path, bands: np.ndarray, grid: Grid, *, nodata: float | None = None, valid: np.ndarray | None = None
) -> None:
    """Write an image in the format of the file's suffix.

    Args:
        path: The file; missing folders are created and an existing file is replaced.
        bands: (1 to 4, H, W); uint8, or uint16 for PNG. A second or fourth band is alpha.
        grid: Grid of the pixels; written to ``{path}.aux.xml``.
        nodata: Nodata value; written there, too.
        valid: Bool (H, W), written as a mask: for PNG to ``{path}.msk``, for JPEG of three bands into the file; None
            for no mask.

    Raises:
        DataError: The file cannot be written.
    """
    driver = PICTURES[path.suffix.lower()]
    count, height, width = bands.shape
    profile = {"driver": driver, "dtype": bands.dtype.name, "count": count, "height": height, "width": width}
    profile |= {"crs": grid.crs, "transform": grid.transform, "nodata": nodata, **OPTIONS[driver]}
    with complete_file(path) as temporary:
        side_files = {Path(f"{temporary}{ending}"): Path(f"{path}{ending}") for ending in SIDE_FILES}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(temporary, "w", **profile) as file:
                    file.write(bands)
                    if valid is not None:
                        file.write_mask(valid)
            for made, kept in side_files.items():
                if made.exists():
                    os.replace(made, kept)
                else:  # leftovers of an earlier image would georeference or mask this one
                    kept.unlink(missing_ok=True)
        finally:
            for made in side_files:
                with suppress(OSError):
                    made.unlink()
