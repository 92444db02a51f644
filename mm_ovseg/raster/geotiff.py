"""Writing GeoTIFFs: the only writer of maps, tiles, masks and everything else on a grid."""

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

BLOCK = 512  # pixels along the edge of a tile
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
    units: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    band_tags: Mapping[str, str] | None = None,
    level: int = 6,
) -> None:
    """Write a tiled, deflated GeoTIFF atomically: the file appears when it is complete.

    Args:
        path: The file; missing folders are created and an existing file is replaced.
        pixels: Array (bands, H, W), or its strips (bands, rows, W), from the first row to the last.
        grid: Grid of the pixels.
        bands, dtype: Required for strips; ignored for an array.
        nodata: Nodata value.
        valid: Bool (H, W), written as an internal mask; None for no mask.
        meanings: Colour interpretation of each band; empty for grey bands.
        colors: Colour table of a single band: value -> (red, green, blue), 0..255.
        descriptions: Descriptions of the bands.
        scales, offsets: Convert the stored values of each band to physical ones; empty for 1 and 0.
        units: What the physical values of each band are; see :func:`mm_ovseg.raster.units.declared_unit`.
        tags, band_tags: Metadata of the file and of its first band.
        level: Compression level, 1 (fast) to 9.

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
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it is written without one on purpose
        with rasterio.open(temporary, "w", **profile) as file:
            if meanings:
                file.colorinterp = meanings
            if any(scale != 1 for scale in scales) or any(offsets):
                file.scales, file.offsets = scales, offsets
            if any(units):
                file.units = units
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
