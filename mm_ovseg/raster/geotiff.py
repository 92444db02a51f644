"""Writing GeoTIFFs: the one writer of maps, tiles, masks and everything else on a grid."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from mm_ovseg.files import complete_file
from mm_ovseg.raster.grid import Grid

__all__ = ["write_geotiff"]

BLOCK = 512  # pixels along a tile's edge
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def write_geotiff(
    path: Path,
    pixels: np.ndarray | Iterable[np.ndarray],
    grid: Grid,
    *,
    bands: int = 1,
    dtype: str = "uint8",
    nodata: float | None = None,
    valid: np.ndarray | None = None,
    meanings: Sequence[ColorInterp] = (),
    colors: Mapping[int, Sequence[int]] | None = None,
    descriptions: Sequence[str] = (),
    scales: Sequence[float] = (),
    offsets: Sequence[float] = (),
    tags: Mapping[str, str] | None = None,
    band_tags: Mapping[str, str] | None = None,
    level: int = 6,
) -> None:
    """Write a tiled, deflated GeoTIFF, which appears when it is whole.

    Args:
        path: The file; missing folders are made, an existing file is replaced.
        pixels: (bands, H, W), or strips (bands, rows, W) of it, from the first row to the last.
        grid: Where the pixels lie.
        bands, dtype: Of parts; an array tells its own.
        nodata: Value that stands for no data.
        valid: Bool (H, W), to be written as a mask within the file; None for no mask.
        meanings: What each band shows; empty for grey bands.
        colors: Value -> (red, green, blue), 0..255, of one band.
        descriptions: Of the bands.
        scales, offsets: From the numbers of each band to what they stand for; empty for 1 and 0.
        tags, band_tags: Of the file, and of its first band.
        level: Of compression, 1 (fast) to 9.

    Raises:
        DataError: The file cannot be written.
    """
    if isinstance(pixels, np.ndarray):
        bands, dtype, pixels = pixels.shape[0], pixels.dtype.name, [pixels]
    is_small = grid.width < BLOCK and grid.height < BLOCK
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": dtype,
        "count": bands,
        "width": grid.width,
        "height": grid.height,
        "crs": grid.crs,
        "transform": grid.transform,
        "nodata": nodata,
        "interleave": "band" if bands != 3 else "pixel",
        "compress": "deflate",
        "zlevel": level,
        "bigtiff": "if_safer",
        "photometric": "rgb" if tuple(meanings[:3]) == RGB else "minisblack",
    }
    if not is_small:
        profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
    with (
        complete_file(path) as temporary,
        warnings.catch_warnings(),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # None was asked for.
        with rasterio.open(temporary, "w", **profile) as file:
            if meanings:
                file.colorinterp = meanings
            if any(scale != 1 for scale in scales) or any(offsets):
                file.scales, file.offsets = scales, offsets
            row = 0
            for part in pixels:
                file.write(part, window=Window(0, row, grid.width, part.shape[1]))
                row += part.shape[1]
            if valid is not None:
                file.write_mask(valid)
            if colors:
                file.write_colormap(1, {index: tuple(map(int, color)) for index, color in colors.items()})
            for band, description in enumerate(descriptions, start=1):
                file.set_band_description(band, description)
            file.update_tags(**(tags or {}))
            file.update_tags(1, **(band_tags or {}))
