"""TerraMind's three example tiles of Sentinel-1 and Sentinel-2, written so that files say what their values are.

RGB is reflectance (bands 4, 3 and 2 of Sentinel-2), where a tile has it, or else its 8-bit rendering. SAR is VV and VH
in dB. Labels keep their values, :data:`~sentinel.land_cover.TERRAMIND_CLASSES`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rasterio.enums import ColorInterp

from mm_ovseg.data.palette import class_colors
from mm_ovseg.errors import DataError
from mm_ovseg.raster import RasterSource, write_geotiff
from mm_ovseg.raster.units import REFLECTANCE
from sentinel.land_cover import CLASSES, TERRAMIND_CLASSES, TERRAMIND_IGNORED

__all__ = ["COLORS", "REFLECTANCE_STEP", "find_sites", "write_label", "write_reflectance", "write_site"]

COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
REFLECTANCE_STEP, DECIBEL_STEP = 1e-4, 1e-2  # of a stored value
RED_GREEN_BLUE = [4, 3, 2]
# Added to stored reflectance; 1000 since processing baseline 04.00, which the files do not say.
ADDED = {"433D_629L_3_1": 1000}
IGNORED_COLOR = (190, 190, 190)


def find_sites(folder: Path) -> list[str]:
    """The names of the tiles in TerraMind's folder.

    Raises:
        DataError: the folder has no tiles.
    """
    sites = sorted(path.stem.removeprefix("label_") for path in folder.glob("label_*.tif"))
    if not sites:
        raise DataError(f"{folder} has no files label_*.tif; give the folder with TerraMind's tiles.")
    return sites


def write_site(folder: Path, site: str, files: Mapping[str, Path], tags: Mapping[str, str] | None = None) -> None:
    """Write one tile.

    Args:
        folder: TerraMind's.
        site: Its name, as in the file names.
        files: The files to write: "rgb", "sar" and "label".
        tags: Metadata of each file.

    Raises:
        DataError: A file cannot be read or written.
    """
    reflectance = folder / f"s2l2a_{site}.tif"
    if reflectance.is_file():
        with RasterSource(reflectance) as source:
            stored = source.read(RED_GREEN_BLUE)[0].transpose(2, 0, 1) - np.int16(ADDED.get(site, 0))
            write_reflectance(files["rgb"], stored, source, tags)
    else:
        with RasterSource(folder / f"rgb_{site}.tif") as source:
            pixels = source.read([1, 2, 3])[0].transpose(2, 0, 1)
            write_geotiff(files["rgb"], pixels, source.grid, meanings=COLORS, tags=tags)
    with RasterSource(folder / f"sar_{site}.tif") as source:
        stored = np.rint(source.read([1, 2])[0].transpose(2, 0, 1) / DECIBEL_STEP).astype(np.int16)
        write_geotiff(
            files["sar"],
            stored,
            source.grid,
            descriptions=["VV", "VH"],
            scales=[DECIBEL_STEP] * 2,
            offsets=[0.0] * 2,
            units=["dB"] * 2,
            tags=tags,
            level=9,
        )
    with RasterSource(folder / f"label_{site}.tif") as source:
        write_label(files["label"], source.read([1])[0].transpose(2, 0, 1), source, tags)


def write_reflectance(
    path: Path, stored: np.ndarray, like: RasterSource, tags: Mapping[str, str] | None = None
) -> None:
    """Write reflectance / 0.0001, int16 (3, H, W) of red, green and blue, on the grid of ``like``."""
    write_geotiff(
        path,
        stored,
        like.grid,
        meanings=COLORS,
        descriptions=["red (B04)", "green (B03)", "blue (B02)"],
        scales=[REFLECTANCE_STEP] * 3,
        offsets=[0.0] * 3,
        units=[REFLECTANCE] * 3,
        tags=tags,
        level=9,
    )


def write_label(path: Path, values: np.ndarray, like: RasterSource, tags: Mapping[str, str] | None = None) -> None:
    """Write TerraMind's label values, uint8 (1, H, W), with names and colours, on the grid of ``like``."""
    colors = dict(zip(TERRAMIND_CLASSES, class_colors(CLASSES, None, owner=str(path)), strict=True))
    colors |= dict.fromkeys(TERRAMIND_IGNORED, IGNORED_COLOR)
    names = {f"class_{value}": name for value, name in sorted({**TERRAMIND_CLASSES, **TERRAMIND_IGNORED}.items())}
    write_geotiff(path, values, like.grid, colors=colors, tags=tags, band_tags=names, level=9)
