"""Writers of small SAR products with the names and structure of the real ones, from known backscatter.

All take linear power, float (H, W), by polarisation, and give the folder of the product.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.raster import Grid, write_geotiff

LATTICE = Affine(30, 0, 500_010, 0, -30, 4_000_020)
BURST = "T069-147170-IW1"
START = "20230101T051225"
HYP3 = "S1A_IW_20200101T000000_DVP_RTC30_G_gpuned_ABCD"
GRD = "S1A_IW_GRDH_1SDV_20230101T051225_20230101T051250_046592_0595A8_4A27_rtc"
HYP3_UNITS = {"p": "power", "d": "dB", "a": "amplitude"}
Power = Mapping[str, np.ndarray]


def ground(shape: tuple[int, int] = (24, 30), seed: int = 0) -> dict[str, np.ndarray]:
    """Power of VV and VH, float32, between -24 and -1 dB."""
    decibels = np.random.default_rng(seed).uniform(-24, -1, (2, *shape))
    return dict(zip(("VV", "VH"), (10 ** (decibels / 10)).astype(np.float32), strict=True))


def in_unit(power: np.ndarray, unit: str) -> np.ndarray:
    """Power in a unit, float32."""
    values = power.astype(np.float64)
    convert = {"power": lambda: values, "amplitude": lambda: np.sqrt(values), "dB": lambda: 10 * np.log10(values)}
    return convert[unit]().astype(np.float32)


def write_layer(path: Path, values: np.ndarray, place: Affine = LATTICE, epsg: int = 32633, **options: object) -> Path:
    """A GeoTIFF of one band."""
    grid = Grid(values.shape[1], values.shape[0], CRS.from_epsg(epsg), place)
    write_geotiff(path, values[np.newaxis], grid, **options)
    return path


def write_opera(
    folder: Path,
    power: Power,
    mask: np.ndarray | None = None,
    *,
    burst: str = BURST,
    start: str = START,
    processed: str = "20230102T101112",
    static: bool = False,
    nodata: float | None = np.nan,
    **place: object,
) -> Path:
    """A burst of OPERA RTC-S1; ``static`` puts its mask among the static layers. Several may share a folder."""
    name = f"OPERA_L2_RTC-S1_{burst}_{start}Z_{processed}Z_S1A_30_v1.0"
    for polarisation, values in power.items():
        write_layer(folder / f"{name}_{polarisation}.tif", values, nodata=nodata, **place)
    if mask is not None:
        name = f"OPERA_L2_RTC-S1-STATIC_{burst}_20140403_S1A_30_v1.0" if static else name
        write_layer(folder / f"{name}_mask.tif", mask, nodata=255, **place)
    (folder / f"{name}.iso.xml").write_text("<metadata/>", encoding="utf-8")
    return folder


def write_hyp3(folder: Path, power: Power, mask: np.ndarray | None = None, name: str = HYP3, **place: object) -> Path:
    """A product of HyP3, in the unit that its name says, with nodata 0."""
    product = folder / name
    unit = HYP3_UNITS[name.split("_")[-2][1]]
    for polarisation, values in power.items():
        write_layer(product / f"{name}_{polarisation}.tif", in_unit(values, unit), nodata=0, **place)
    shape = next(iter(power.values())).shape
    for layer in ("inc_map", "dem", "area"):
        write_layer(product / f"{name}_{layer}.tif", np.ones(shape, np.float32), **place)
    if mask is not None:
        write_layer(product / f"{name}_ls_map.tif", mask, **place)
    (product / f"{name}.README.md.txt").write_text("ASF RTC Data Package\n", encoding="utf-8")
    return product


def write_planetary_computer(folder: Path, power: Power, name: str = GRD, **place: object) -> Path:
    """The layout of Planetary Computer's sentinel-1-rtc."""
    for polarisation, values in power.items():
        write_layer(
            folder / name / "measurement" / f"iw-{polarisation.lower()}.rtc.tiff", values, nodata=-32768, **place
        )
    return folder / name


def write_nrb(folder: Path, power: Power, *, letters: str = "g-lin", tile: str = "33tuf", **place: object) -> Path:
    """Normalised radar backscatter in a tile."""
    product = folder / "S1A_IW_NRB__1SDV_20220721T051225_044194_05465E_33TUF_1234"
    for polarisation, values in power.items():
        name = f"s1a-iw-nrb-20220721t051225-044194-05465e-{tile}-{polarisation.lower()}-{letters}.tif"
        values = in_unit(values, "dB" if letters.endswith("log") else "power")
        write_layer(product / "measurement" / name, values, nodata=np.nan, **place)
    return product
