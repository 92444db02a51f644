"""Rasters that people have, of a small part of the shipped pair."""

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS

from laptop.drawn_world import SYNTHETIC_CLASSES
from tests.conftest import ROOT

PAIR = ROOT / "demo" / "assets" / "pair" / "val"
CONFIG = ROOT / "configs" / "quickstart" / "demo.yaml"
SIZE = 64
NAMES = ",".join(SYNTHETIC_CLASSES)
UTM = CRS.from_epsg(32652)
PLACE = Affine(2, 0, 430_000, 0, -2, 3_900_000)
PIXEL = 4.0026 / 10_000  # hectares of a pixel of 2 m there
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]


def crop(kind, row=0, column=0):
    with rasterio.open(PAIR / kind / "00000.tif") as file:
        return file.read(window=((row, row + SIZE), (column, column + SIZE)))


RGB, CLOUDED, SAR, LABELS = (crop(kind) for kind in ("rgb", "rgb_clouds", "sar", "labels"))
DECIBELS = (SAR / 255 * 25 - 25).astype(np.float32)


def write(
    path, bands, *, crs=UTM, transform=PLACE, mask=None, meanings=None, scales=None, gcps=None, rpcs=None, **more
):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = bands[None] if bands.ndim == 2 else bands
    profile = {"driver": "GTiff", "dtype": bands.dtype, "photometric": "minisblack", "crs": crs, **more}
    size = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    if gcps is None and transform is not None:
        profile["transform"] = transform
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **size, **profile) as file:
        if meanings:
            file.colorinterp = meanings
        if scales:
            file.scales = scales
        if gcps:
            file.gcps = (gcps, crs)
        if rpcs:
            file.rpcs = rpcs
        file.write(bands)
        if mask is not None:
            file.write_mask(mask)
    return path


def vrt(path, files, *, nodata=None, kinds=None, crs=UTM, transform=PLACE):
    """What gdalbuildvrt -separate writes."""
    bands = ""
    for number, file in enumerate(files):
        value = nodata[number] if nodata else None
        bands += f'<VRTRasterBand dataType="{kinds[number] if kinds else "Float32"}" band="{number + 1}">'
        bands += "" if value is None else f"<NoDataValue>{value}</NoDataValue>"
        bands += f'<ComplexSource><SourceFilename relativeToVRT="1">{file}</SourceFilename><SourceBand>1</SourceBand>'
        bands += ("" if value is None else f"<NODATA>{value}</NODATA>") + "</ComplexSource></VRTRasterBand>"
    path.write_text(
        f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}"><SRS>{crs.to_wkt()}</SRS><GeoTransform>'
        f"{', '.join(map(str, transform.to_gdal()))}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def hectares(report):
    return sum(area["hectares"] for area in report["classes"])
