"""Writes small Landsat products of Collection 2 with the names and metadata of the true ones."""

import json
import math
import shutil
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.raster import Grid, write_geotiff

SUN_ELEVATION = 40.5
FACTORS = {"L2SP": (2.75e-05, -0.2), "L1TP": (2.0e-05, -0.1)}
CLEAR, CLOUD, SHADOW, CIRRUS, DILATED = 21824, 22280, 23888, 54596, 21762  # values of QA_PIXEL
SENSORS = {"LC08": ("LANDSAT_8", "OLI_TIRS", (4, 3, 2)), "LT05": ("LANDSAT_5", "TM", (3, 2, 1))}


def write_landsat(
    folder,
    reflectance,
    *,
    level="L2SP",
    sensor="LC08",
    quality=None,
    row="028",
    corner=(600_015, 5_100_015),
    epsg=32632,
    sun_elevation=SUN_ELEVATION,
    formats=("xml", "json", "txt"),
    packed="",
):
    """Write a product.

    Args:
        folder: Where.
        reflectance: Red, green and blue, float (3, H, W) at 30 m; NaN for no data. Of level 1 at the top of the
            atmosphere, corrected for the sun's height.
        level: "L2SP" or "L1TP".
        sensor: "LC08" or "LT05".
        quality: QA_PIXEL, uint16 (H, W); None for clear.
        row, corner, epsg: Where the product is; the corner is its west and north.
        sun_elevation: In degrees.
        formats: Those of the metadata to write.
        packed: ".tar" or ".zip" to write such an archive in place of the folder.

    Returns:
        The folder, or the archive.
    """
    name = f"{sensor}_{level}_193{row}_20220125_20220204_02_T1"
    place = Path(folder) / name
    scale, offset = FACTORS[level]
    sun = math.sin(math.radians(sun_elevation)) if level == "L1TP" else 1
    values = np.nan_to_num(np.rint((reflectance * sun - offset) / scale), nan=0).astype(np.uint16)
    quality = np.where(values.any(axis=0), CLEAR, 1).astype(np.uint16) if quality is None else quality
    grid = Grid(values.shape[2], values.shape[1], CRS.from_epsg(epsg), Affine(30, 0, corner[0], 0, -30, corner[1]))
    spacecraft, instrument, bands = SENSORS[sensor]
    files = {f"FILE_NAME_BAND_{band}": f"{name}_{'SR_' * (level == 'L2SP')}B{band}.TIF" for band in bands}
    for file, of_band in zip(files.values(), values, strict=True):
        write_geotiff(place / file, of_band[np.newaxis], grid, nodata=0)
    files["FILE_NAME_QUALITY_L1_PIXEL"] = f"{name}_QA_PIXEL.TIF"
    write_geotiff(place / f"{name}_QA_PIXEL.TIF", quality[np.newaxis], grid, nodata=1)
    groups = {
        "PRODUCT_CONTENTS": {
            "LANDSAT_PRODUCT_ID": name,
            "PROCESSING_LEVEL": level,
            "COLLECTION_NUMBER": "02",
            **files,
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": spacecraft,
            "SENSOR_ID": instrument,
            "WRS_PATH": "193",
            "WRS_ROW": row,
            "DATE_ACQUIRED": "2022-01-25",
            "SCENE_CENTER_TIME": "10:05:11.3424060Z",
            "CLOUD_COVER": "20.30",
            "SUN_ELEVATION": str(sun_elevation),
        },
    }
    if level == "L2SP":
        groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = _factors(bands, *FACTORS["L2SP"])
    groups["LEVEL1_RADIOMETRIC_RESCALING"] = _factors(bands, *FACTORS["L1TP"])
    for suffix in formats:
        (place / f"{name}_MTL.{suffix}").write_text(WRITERS[suffix](groups), encoding="utf-8")
    if not packed:
        return place
    archive = Path(folder) / f"{name}{packed}"
    if packed == ".tar":
        with tarfile.open(archive, "w") as file:
            for path in sorted(place.iterdir()):
                file.add(path, path.name)
    else:
        shutil.make_archive(str(place), packed[1:], place)
    shutil.rmtree(place)
    return archive


def _factors(bands, scale, offset):
    scales = {f"REFLECTANCE_MULT_BAND_{band}": f"{scale:.4E}" for band in bands}
    return scales | {f"REFLECTANCE_ADD_BAND_{band}": f"{offset:.6f}" for band in bands}


def _as_xml(groups):
    root = ElementTree.Element("LANDSAT_METADATA_FILE")
    for name, group in groups.items():
        element = ElementTree.SubElement(root, name)
        for key, value in group.items():
            ElementTree.SubElement(element, key).text = value
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _as_json(groups):
    return json.dumps({"LANDSAT_METADATA_FILE": groups}, indent=2)


def _as_text(groups):
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for name, group in groups.items():
        lines.append(f"  GROUP = {name}")
        lines += [f"    {key} = {_quoted(value)}" for key, value in group.items()]
        lines.append(f"  END_GROUP = {name}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def _quoted(value):
    try:
        float(value)
    except ValueError:
        return f'"{value}"'
    return value


WRITERS = {"xml": _as_xml, "json": _as_json, "txt": _as_text}
