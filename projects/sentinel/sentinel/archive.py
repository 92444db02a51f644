"""Reading images from the zip archives of ``realtrain``, and writing 8-bit images without a place on the ground."""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
from rasterio import Affine

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Grid, open_raster, write_geotiff

__all__ = ["Archive", "write_image"]


class Archive:
    """The JPEG images of a zip archive; a context manager.

    Raises:
        DataError: The file is missing or not a zip archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read as a zip archive ({error}); copy it again.") from error
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._folder.cleanup()

    def names(self, prefix: str = "") -> list[str]:
        """The sorted names of the JPEG images whose path starts with ``prefix``."""
        return sorted(name for name in self._file.namelist() if name.startswith(prefix) and name.endswith(".jpg"))

    def read(self, name: str) -> np.ndarray:
        """One image, uint8 (H, W, 3), or (H, W) if it is grey.

        Raises:
            DataError: The image is missing or damaged.
        """
        path = Path(self._folder.name) / "image.jpg"
        try:
            path.write_bytes(self._file.read(name))
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} has no readable image {name} ({error}); copy it again.") from error
        try:
            with open_raster(path) as file:
                bands = file.read()
        except DataError as error:
            raise DataError(f"{name} in {self.path} is damaged; copy the archive again.") from error
        return bands[0] if len(bands) == 1 else np.moveaxis(bands, 0, 2)


def write_image(path: Path, image: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Write uint8 (H, W) or (H, W, 3) as a GeoTIFF, with a mask if ``valid``, bool (H, W), is given.

    Raises:
        DataError: The file cannot be written.
    """
    height, width = image.shape[:2]
    bands = np.moveaxis(np.atleast_3d(image), 2, 0)
    write_geotiff(path, bands, Grid(width, height, None, Affine.identity()), valid=valid)
