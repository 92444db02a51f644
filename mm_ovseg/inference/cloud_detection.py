"""Detecting clouds with omnicloudmask (Wright et al. 2025), an optional package."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from mm_ovseg.errors import ConfigError, DataError, brief_reason
from mm_ovseg.raster import RasterSource, RGBReader, write_geotiff

__all__ = ["DETECT", "DETECTED_CLOUDS", "detect_clouds", "detector_bands", "import_detector"]

logger = logging.getLogger(__name__)

DETECT = "detect"
DETECTED_CLOUDS = (1, 2, 3)  # its thick cloud, thin cloud and cloud shadow; 0 is clear
# In pixels: its own patches have 1000 a side and overlap by 300, and it takes no fewer than 32.
ROWS_AT_ONCE, MARGIN, MIN_SIDE = 1000, 150, 32


def import_detector() -> ModuleType:
    """The optional omnicloudmask.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import omnicloudmask
    except ImportError as error:
        raise ConfigError(
            f"--clouds {DETECT} needs omnicloudmask ({error}); run: pip install 'mm_ovseg[cloud-detection]', or give a "
            "cloud mask."
        ) from error
    return omnicloudmask


def detect_clouds(source: RasterSource, bands: Sequence[int], path: Path, *, device: str) -> None:
    """Detect clouds in a raster and write their mask, uint8, on its grid.

    It is read in strips of rows, so memory use does not depend on its height.

    Args:
        source: the raster; the detector expects pixels of 10 to 50 m.
        bands: its red, green and near infrared, from 1.
        path: the mask to write, of values 0 and :data:`DETECTED_CLOUDS`; it appears when it is complete.
        device: PyTorch device of the detector.

    Raises:
        ConfigError: the detector is not installed.
        DataError: the detector fails.
    """
    detector = import_detector()
    logger.info("Detecting clouds in %s.", source.name)
    write_geotiff(path, _strips(detector, source, bands, device), source.grid, bands=1, dtype="uint8", level=1)


def detector_bands(source: RasterSource, reader: RGBReader, near_infrared: int) -> list[int]:
    """Red, green and near infrared of a raster, from 1.

    Args:
        source: the raster.
        reader: says which of its bands are red and green.
        near_infrared: the band of near infrared.

    Raises:
        DataError: the raster lacks one of them.
    """
    chosen = reader.choose(source)
    if len(chosen) < 3 or not 1 <= near_infrared <= len(source.bands) or near_infrared in chosen:
        raise DataError(
            f"Detecting clouds in {source.name} needs red, green and near infrared, but --nir-band is {near_infrared} "
            f"and RGB are bands {', '.join(map(str, chosen))} of {len(source.bands)}; give a file with all of them, or "
            "a cloud mask."
        )
    return [*chosen[:2], near_infrared]


def _strips(detector: ModuleType, source: RasterSource, bands: Sequence[int], device: str) -> Iterator[np.ndarray]:
    height, width = source.grid.shape
    for row in range(0, height, ROWS_AT_ONCE):
        end = min(row + ROWS_AT_ONCE, height)
        top, bottom = max(row - MARGIN, 0), min(end + MARGIN, height)
        values, known = source.read(bands, (top, 0, bottom - top, width), "float32")
        if known is not None:
            values[~known] = np.nan  # no data, for the detector
        short = [(0, max(0, MIN_SIDE - length)) for length in values.shape[:2]]
        image = np.pad(values, [*short, (0, 0)], constant_values=np.nan).transpose(2, 0, 1)  # (3, rows, W)
        try:
            found = detector.predict_from_array(image, inference_device=device)
        except Exception as error:  # such as weights that cannot be downloaded
            raise DataError(
                f"The clouds of {source.name} cannot be detected ({brief_reason(error)}); give a cloud mask instead."
            ) from error
        yield np.asarray(found, np.uint8)[:, row - top : end - top, :width]
