"""Real pairs without labels, to look at: a site clear and really cloudy, two cities, and a port by another sensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mm_ovseg.raster import RasterSource, write_geotiff
from sentinel.terramind import COLORS, RED_GREEN_BLUE, write_reflectance

__all__ = ["write_pairs_to_look_at"]

SITE = "ROIs1970_fall_139_p839"
CITIES = {"Los Angeles": ("048", -55.0), "San Antonio": ("263", -58.0)}  # file, and what makes its SAR decibels
NO_AMPLITUDE = 10  # in the cities' SAR, VH
LOW, HIGH = -32.0, -7.0  # decibels that become 0 and 255
CORNER = (0, 0, 448, 448)  # of the cities: row, column, height, width
PORT_BANDS = [4, 3]  # VV and VH


def write_pairs_to_look_at(realdata: Path, work: Path) -> dict[str, tuple[Path, Path]]:
    """Write the pairs as files that say their units, unless they are there already.

    Returns:
        Title -> RGB and SAR.

    Raises:
        DataError: a file cannot be read or written.
    """
    folder = realdata / "sen12mscr"
    sar = _once(work / "site_sar.tif", _write_decibels, folder / f"sar_{SITE}.tif", [1, 2])
    pairs = {}
    for title, kind in (("Jiangsu, clear", "s2"), ("Jiangsu, really cloudy", "s2cloudy")):
        pairs[title] = _once(work / f"site_{kind}.tif", _copy_reflectance, folder / f"{kind}_{SITE}.tif"), sar
    for title, (number, constant) in CITIES.items():
        rgb, sar = (realdata / "volkov_s1s2" / f"{kind}_{number}.png" for kind in ("rgb", "sar"))
        rgb = _once(work / f"city_{number}_rgb.tif", _cut, rgb)
        sar = _once(work / f"city_{number}_sar.tif", _cut_amplitude, sar, constant)
        pairs[title] = rgb, sar
    port = realdata / "sn6_solaris"
    sar = _once(work / "port_sar.tif", _write_decibels, port / "sar_rotterdam.tif", PORT_BANDS)
    pairs["Rotterdam, 4.5 m"] = port / "rgb_rotterdam.tif", sar
    return pairs


def _once(path: Path, write: Callable[..., None], *arguments: Any) -> Path:
    """Write a file unless it is there, and return it."""
    if not path.is_file():
        write(path, *arguments)
    return path


def _copy_reflectance(path: Path, source_path: Path) -> None:
    with RasterSource(source_path) as source:
        write_reflectance(path, source.read(RED_GREEN_BLUE)[0].transpose(2, 0, 1).astype(np.int16), source)


def _write_decibels(path: Path, source_path: Path, bands: list[int]) -> None:
    with RasterSource(source_path) as source:
        values = source.read(bands)[0].transpose(2, 0, 1)
        write_geotiff(path, values, source.grid, descriptions=["VV", "VH"], units=["dB", "dB"])


def _cut(path: Path, source_path: Path) -> None:
    """A corner of an RGB image."""
    with RasterSource(source_path) as source:
        pixels = source.read([1, 2, 3], CORNER)[0].transpose(2, 0, 1)
        write_geotiff(path, pixels, source.grid.window(*CORNER), meanings=COLORS)


def _cut_amplitude(path: Path, source_path: Path, constant: float) -> None:
    """A corner of the SAR of a city, whose amplitude becomes decibels in 0..255."""
    with RasterSource(source_path) as source:
        amplitude = source.read([1], CORNER)[0][None, ..., 0].astype(float) - NO_AMPLITUDE
        decibels = 20 * np.log10(np.maximum(amplitude, 0.5)) + constant
        pixels = np.clip(np.rint((decibels - LOW) * 255 / (HIGH - LOW)), 0, 255).astype(np.uint8)
        write_geotiff(path, pixels, source.grid.window(*CORNER))
